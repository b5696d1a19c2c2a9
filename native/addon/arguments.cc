// SPDX-License-Identifier: Apache-2.0
#include "addon/arguments.h"

namespace omerta::addon {

void throw_error(Napi::Env env, const std::string& code, const std::string& message) {
  Napi::Error error = Napi::Error::New(env, message);
  error.Set("code", Napi::String::New(env, code));
  throw error;
}

Bytes bytes_of(const Napi::Value& value, const char* field) {
  if (!value.IsTypedArray())
    throw_error(value.Env(), "BAD_ARGUMENT", std::string(field) + ": expected a Uint8Array");
  const auto array = value.As<Napi::Uint8Array>();
  return {array.Data(), array.ByteLength()};
}

Key32 key_of(const Napi::Value& value, const char* field) {
  const Bytes bytes = bytes_of(value, field);
  if (bytes.size() != 32)
    throw_error(value.Env(), "BAD_ARGUMENT", std::string(field) + ": expected 32 bytes");
  Key32 key;
  std::memcpy(key.data(), bytes.data(), key.size());
  return key;
}

double number_of(const Napi::Object& object, const char* field) {
  return object.Get(field).As<Napi::Number>().DoubleValue();
}

size_t size_of(const Napi::Object& object, const char* field) {
  return static_cast<size_t>(number_of(object, field));
}

std::string text_of(const Napi::Object& object, const char* field) {
  return object.Get(field).As<Napi::String>().Utf8Value();
}

bool flag_of(const Napi::Object& object, const char* field) { return object.Get(field).ToBoolean(); }

std::vector<std::string> texts_of(const Napi::Object& object, const char* field) {
  const auto list = object.Get(field).As<Napi::Array>();
  std::vector<std::string> texts;
  for (uint32_t i = 0; i < list.Length(); i++) texts.push_back(list.Get(i).As<Napi::String>().Utf8Value());
  return texts;
}

std::span<const uint32_t> ids_of(const Napi::Value& value) {
  const auto ids = value.As<Napi::Uint32Array>();
  return {ids.Data(), ids.ElementLength()};
}

Bytes Unpacker::take(size_t size) {
  if (size > bytes_.size() - at_) throw_error(env_, "BAD_ARGUMENT", std::string(field_) + ": truncated");
  const Bytes part = bytes_.subspan(at_, size);
  at_ += size;
  return part;
}

Key32 Unpacker::take_key() {
  Key32 key;
  std::memcpy(key.data(), take(key.size()).data(), key.size());
  return key;
}

omerta_address Unpacker::take_address() {
  omerta_address address{};
  std::memcpy(address.ip, take(16).data(), 16);
  address.port = __builtin_bswap16(take<uint16_t>());
  return address;
}

std::array<uint8_t, 18> packed_address(const omerta_address& address) {
  std::array<uint8_t, 18> packed;
  std::memcpy(packed.data(), address.ip, 16);
  store(packed.data() + 16, __builtin_bswap16(address.port));
  return packed;
}

std::vector<omerta_leg> legs_of(const Napi::Value& value, const char* field) {
  Unpacker batch(value, field);
  std::vector<omerta_leg> legs;
  while (!batch.done()) legs.push_back(batch.take<omerta_leg>());
  return legs;
}

Napi::Value packed_legs(Napi::Env env, std::span<const omerta_leg> legs) {
  return Napi::Buffer<uint8_t>::Copy(env, reinterpret_cast<const uint8_t*>(legs.data()), legs.size_bytes());
}

}  // namespace omerta::addon
