// SPDX-License-Identifier: Apache-2.0
//! The compiled descriptors equal the protocol tables, row by row, both ways.

use std::collections::BTreeSet;
use std::path::Path;

use prost::Message;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto,
    FileDescriptorSet,
};

const FILES: &[(&str, &str)] = &[
    ("filer.proto", "proto-filer.tsv"),
    ("master.proto", "proto-master.tsv"),
    ("volume_server.proto", "proto-volume.tsv"),
    ("remote.proto", "proto-remote.tsv"),
    ("iam.proto", "proto-iam.tsv"),
    ("s3.proto", "proto-s3.tsv"),
    ("mount.proto", "proto-mount.tsv"),
    ("mount_peer.proto", "proto-mount-peer.tsv"),
];

#[test]
fn descriptors_equal_the_tables_row_by_row() {
    let set = FileDescriptorSet::decode(dulse_proto::FILE_DESCRIPTOR_SET).unwrap();
    for (file, table) in FILES {
        let descriptor = set
            .file
            .iter()
            .find(|f| f.name() == *file)
            .expect("a compiled file");
        let ours = rows(descriptor);
        let path = Path::new("tests/tables").join(table);
        let text = std::fs::read_to_string(path).unwrap();
        let theirs: BTreeSet<String> = text.lines().map(str::to_owned).collect();
        let missing: Vec<_> = theirs.difference(&ours).collect();
        let extra: Vec<_> = ours.difference(&theirs).collect();
        assert!(
            missing.is_empty() && extra.is_empty(),
            "{file}: -{missing:?} +{extra:?}"
        );
        assert!(ours.len() > 4, "{file} has too few rows to mean anything");
    }
}

fn rows(file: &FileDescriptorProto) -> BTreeSet<String> {
    let package = file.package();
    let mut out = BTreeSet::from([format!("package\t{package}")]);
    out.extend(
        file.dependency
            .iter()
            .map(|import| format!("import\t{import}")),
    );
    let strip = |name: &str| {
        let name = name.trim_start_matches('.');
        name.strip_prefix(&format!("{package}."))
            .unwrap_or(name)
            .to_owned()
    };
    for service in &file.service {
        for method in &service.method {
            let stream = |is: bool| if is { "stream" } else { "-" };
            out.insert(format!(
                "rpc\t{}\t{}\t{}\t{}\t{}\t{}",
                service.name(),
                method.name(),
                strip(method.input_type()),
                strip(method.output_type()),
                stream(method.client_streaming()),
                stream(method.server_streaming())
            ));
        }
    }
    for message in &file.message_type {
        message_rows(message, "", &strip, &mut out);
    }
    for item in &file.enum_type {
        enum_rows(item, "", &mut out);
    }
    out
}

fn enum_rows(item: &EnumDescriptorProto, outer: &str, out: &mut BTreeSet<String>) {
    for value in &item.value {
        out.insert(format!(
            "enum\t{outer}{}\t{}\t{}",
            item.name(),
            value.name(),
            value.number()
        ));
    }
}

fn message_rows(
    message: &DescriptorProto,
    outer: &str,
    strip: &dyn Fn(&str) -> String,
    out: &mut BTreeSet<String>,
) {
    let full = format!("{outer}{}", message.name());
    out.insert(format!("message\t{full}"));
    for range in &message.reserved_range {
        out.insert(format!("reserved\t{full}\t{}", range.start()));
    }
    for field in &message.field {
        let map = message.nested_type.iter().find(|nested| {
            nested.options.as_ref().is_some_and(|o| o.map_entry())
                && field
                    .type_name()
                    .ends_with(&format!("{}.{}", message.name(), nested.name()))
        });
        let (kind, label) = match map {
            Some(entry) => {
                let of = |at: usize| type_of(&entry.field[at], strip);
                (format!("map<{},{}>", of(0), of(1)), "map".to_owned())
            }
            None => (type_of(field, strip), label_of(field, message)),
        };
        out.insert(format!(
            "field\t{full}\t{}\t{}\t{kind}\t{label}",
            field.name(),
            field.number()
        ));
    }
    let inner = format!("{full}.");
    for nested in &message.nested_type {
        if !nested.options.as_ref().is_some_and(|o| o.map_entry()) {
            message_rows(nested, &inner, strip, out);
        }
    }
    for item in &message.enum_type {
        enum_rows(item, &inner, out);
    }
}

fn label_of(field: &FieldDescriptorProto, message: &DescriptorProto) -> String {
    if field.label() == Label::Repeated {
        return "repeated".to_owned();
    }
    if field.proto3_optional() {
        return "optional".to_owned();
    }
    match field.oneof_index {
        Some(at) => format!("oneof:{}", message.oneof_decl[at as usize].name()),
        None => "singular".to_owned(),
    }
}

fn type_of(field: &FieldDescriptorProto, strip: &dyn Fn(&str) -> String) -> String {
    match field.r#type() {
        Type::Message | Type::Enum | Type::Group => strip(field.type_name()),
        Type::Double => "double".into(),
        Type::Float => "float".into(),
        Type::Int64 => "int64".into(),
        Type::Uint64 => "uint64".into(),
        Type::Int32 => "int32".into(),
        Type::Fixed64 => "fixed64".into(),
        Type::Fixed32 => "fixed32".into(),
        Type::Bool => "bool".into(),
        Type::String => "string".into(),
        Type::Bytes => "bytes".into(),
        Type::Uint32 => "uint32".into(),
        Type::Sfixed32 => "sfixed32".into(),
        Type::Sfixed64 => "sfixed64".into(),
        Type::Sint32 => "sint32".into(),
        Type::Sint64 => "sint64".into(),
    }
}
