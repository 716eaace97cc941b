// SPDX-License-Identifier: Apache-2.0
//! Membership as state machines without IO.
