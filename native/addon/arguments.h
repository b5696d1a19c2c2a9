// SPDX-License-Identifier: Apache-2.0
// What both addons take from JavaScript and tell it: bytes, numbers, packed batches, and errors with a code.
#pragma once

#include <napi.h>

#include <span>
#include <string>
#include <vector>

#include <omerta/wire.h>
#include "common/bytes.h"

namespace omerta::addon {

/// An Error whose property `code` TypeScript tells failures apart by.
[[noreturn]] void throw_error(Napi::Env env, const std::string& code, const std::string& message);

/// BAD_ARGUMENT names the field when it is not a Uint8Array.
Bytes bytes_of(const Napi::Value& value, const char* field);
Key32 key_of(const Napi::Value& value, const char* field);
double number_of(const Napi::Object& object, const char* field);
size_t size_of(const Napi::Object& object, const char* field);
std::string text_of(const Napi::Object& object, const char* field);
bool flag_of(const Napi::Object& object, const char* field);
std::vector<std::string> texts_of(const Napi::Object& object, const char* field);
/// Views the caller's memory.
std::span<const uint32_t> ids_of(const Napi::Value& value);

/// Reads a packed batch; every read is checked against its end.
class Unpacker {
 public:
  Unpacker(const Napi::Value& value, const char* field)
      : env_(value.Env()), bytes_(bytes_of(value, field)), field_(field) {}
  bool done() const { return at_ == bytes_.size(); }
  Bytes take(size_t size);
  template <class T>
  T take() {
    return load<T>(take(sizeof(T)).data());
  }
  Key32 take_key();
  /// ip 16 | port u16 little-endian, as TypeScript writes addresses.
  omerta_address take_address();

 private:
  Napi::Env env_;
  Bytes bytes_;
  const char* field_;
  size_t at_ = 0;
};

/// ip 16 | port u16 little-endian.
std::array<uint8_t, 18> packed_address(const omerta_address& address);

/// Packed struct omerta_leg, 128 bytes each.
std::vector<omerta_leg> legs_of(const Napi::Value& value, const char* field);
Napi::Value packed_legs(Napi::Env env, std::span<const omerta_leg> legs);

}  // namespace omerta::addon
