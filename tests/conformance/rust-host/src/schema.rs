//! The plugin's own `.proto` texts, compiled at run time: each must stand for itself.

use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor};
use protox::file::{File, FileResolver};
use serde_json::Value;

#[derive(Clone, PartialEq, Message)]
pub struct MethodSchema {
    #[prost(string, tag = "1")]
    pub args_proto: String,
    #[prost(string, tag = "2")]
    pub result_proto: String,
    #[prost(string, optional, tag = "3")]
    pub description: Option<String>,
    #[prost(int32, tag = "4")]
    pub output_type: i32,
    #[prost(bool, tag = "5")]
    pub require_client_stream: bool,
    #[prost(string, optional, tag = "6")]
    pub client_stream_data_proto: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
pub struct MethodJsonSchema {
    #[prost(string, tag = "1")]
    pub args_schema: String,
    #[prost(string, optional, tag = "2")]
    pub result_schema: Option<String>,
}

/// Knows one file and nothing that it could import.
struct OneFile(String);

impl FileResolver for OneFile {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        match name {
            "it.proto" => File::from_source(name, &self.0),
            _ => Err(protox::Error::file_not_found(name)),
        }
    }
}

/// The first message of a `.proto` text.
pub fn first_message(text: &str) -> Result<MessageDescriptor, String> {
    let mut compiler = protox::Compiler::with_file_resolver(OneFile(text.to_owned()));
    compiler.open_file("it.proto").map_err(|e| format!("{e:?}"))?;
    let pool: DescriptorPool = compiler.descriptor_pool();
    let file = pool.get_file_by_name("it.proto").ok_or("the text was not compiled")?;
    if file.syntax() != prost_reflect::Syntax::Proto3 {
        return Err("the text is not proto3".into());
    }
    let first = file.messages().next();
    first.ok_or_else(|| "the text holds no message".into())
}

pub fn encode(descriptor: &MessageDescriptor, json: Value) -> Vec<u8> {
    DynamicMessage::deserialize(descriptor.clone(), json).expect("the JSON fits the plugin's message").encode_to_vec()
}

/// The message as JSON with the field names of the `.proto` text.
pub fn decode(descriptor: &MessageDescriptor, bytes: &[u8]) -> Result<Value, String> {
    let message = DynamicMessage::decode(descriptor.clone(), bytes).map_err(|e| e.to_string())?;
    if message.unknown_fields().next().is_some() {
        return Err("the message has fields that its .proto text does not know".into());
    }
    let options = prost_reflect::SerializeOptions::new().use_proto_field_name(true);
    message.serialize_with_options(serde_json::value::Serializer, &options).map_err(|e| e.to_string())
}
