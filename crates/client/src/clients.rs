// SPDX-License-Identifier: Apache-2.0
//! Typed clients with the limits of this repository.

use dulse_proto::filer::seaweed_filer_client::SeaweedFilerClient;
use dulse_proto::status::filer_status_client::FilerStatusClient;
use dulse_proto::volume::volume_server_client::VolumeServerClient;
use dulse_transport::MESSAGE_BYTES_MAX;
use tonic::transport::Channel;

/// A client of what a filer says of itself.
pub type FilerStatus = FilerStatusClient<Channel>;

/// A client of a filer's status service.
#[must_use]
pub fn filer_status(channel: Channel) -> FilerStatus {
    FilerStatusClient::new(channel)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX)
}

/// A client of a filer's namespace.
#[must_use]
pub fn filer(channel: Channel) -> SeaweedFilerClient<Channel> {
    SeaweedFilerClient::new(channel)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX)
}

/// A client of a volume server.
#[must_use]
pub fn volume_server(channel: Channel) -> VolumeServerClient<Channel> {
    VolumeServerClient::new(channel)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX)
}
