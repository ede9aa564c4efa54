//! A wrong number in a `.proto` file would still compile, and fail only against a real Triton. So every name, number
//! and type of our text is compared with `published.txt`, which was rendered from the descriptor inside NVIDIA's
//! `tritonclient` 2.73.0 wheel.

use protox::prost_reflect::{
    Cardinality, DescriptorPool, EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor, MethodDescriptor,
};

#[test]
fn names_and_numbers_are_the_published_ones() {
    let pool = pool();
    let mut ours: Vec<String> = pool
        .all_messages()
        .flat_map(|message| message_lines(&message))
        .chain(pool.all_enums().flat_map(|kind| enum_lines(&kind)))
        .chain(pool.services().flat_map(|service| service.methods().map(|m| method_line(&m)).collect::<Vec<_>>()))
        .collect();
    ours.sort();
    let published: Vec<&str> = include_str!("published.txt").lines().collect();
    let missing: Vec<_> = published.iter().filter(|line| !ours.iter().any(|our| our == *line)).collect();
    let added: Vec<_> = ours.iter().filter(|line| !published.contains(&line.as_str())).collect();
    assert!(missing.is_empty() && added.is_empty(), "missing: {missing:#?}\nadded: {added:#?}");
    assert_eq!(ours.len(), published.len(), "a line occurs twice");
}

#[test]
fn all_twenty_methods_are_there() {
    let service = pool().get_service_by_name("inference.GRPCInferenceService").expect("the service is declared");
    assert_eq!(service.methods().len(), 20);
}

fn pool() -> DescriptorPool {
    let files = ["inference/grpc_service.proto", "inference/model_config.proto", "grpc/health/v1/health.proto"];
    let set = protox::compile(files, [env!("CARGO_MANIFEST_DIR")]).expect("our text is valid");
    DescriptorPool::from_file_descriptor_set(set).expect("protox links what it compiles")
}

fn message_lines(message: &MessageDescriptor) -> Vec<String> {
    let mut fields: Vec<_> = message.fields().map(|field| field_line(&field)).collect();
    if fields.is_empty() {
        fields.push(format!("message {}", message.full_name()));
    }
    fields
}

fn field_line(field: &FieldDescriptor) -> String {
    let label = match (field.cardinality(), field.containing_oneof()) {
        (Cardinality::Repeated, _) => "repeated".to_owned(),
        (_, Some(oneof)) => format!("oneof:{}", oneof.name()),
        (_, None) => "optional".to_owned(),
    };
    format!("{} = {} {} {label}", field.full_name(), field.number(), type_name(&field.kind()))
}

fn type_name(kind: &Kind) -> String {
    match kind {
        Kind::Message(message) => message.full_name().to_owned(),
        Kind::Enum(kind) => kind.full_name().to_owned(),
        scalar => format!("{scalar:?}").to_lowercase(),
    }
}

fn enum_lines(kind: &EnumDescriptor) -> Vec<String> {
    kind.values().map(|value| format!("enum {}.{} = {}", kind.full_name(), value.name(), value.number())).collect()
}

fn method_line(method: &MethodDescriptor) -> String {
    let stream = |on: bool| if on { "stream " } else { "" };
    format!(
        "rpc {} {}{} -> {}{}",
        method.full_name(),
        stream(method.is_client_streaming()),
        method.input().full_name(),
        stream(method.is_server_streaming()),
        method.output().full_name()
    )
}
