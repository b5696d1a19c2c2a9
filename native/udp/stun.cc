// SPDX-License-Identifier: Apache-2.0
#include "udp/stun.h"

#include <cstring>

namespace omerta::udp {
namespace {

constexpr uint8_t kMagicCookie[4] = {0x21, 0x12, 0xA4, 0x42};
constexpr size_t kHeader = 20;
constexpr size_t kAttributeHeader = 4;
/// Header, and type, length, family and port of XOR-MAPPED-ADDRESS.
constexpr size_t kAddressAt = kHeader + 8;
/// Header, ERROR-CODE without a reason phrase, type and length of UNKNOWN-ATTRIBUTES.
constexpr size_t kUnknownAt = kHeader + 8 + kAttributeHeader;
/// So the answer is never much larger than the request, whatever that names.
constexpr size_t kMostUnknown = 16;

// RFC 8489 section 18.3.
constexpr uint16_t kMessageIntegrity = 0x0008;
constexpr uint16_t kMessageIntegritySha256 = 0x001C;
constexpr uint16_t kFingerprint = 0x8028;
constexpr uint16_t kComprehensionOptional = 0x8000;
constexpr uint16_t kKnown[] = {0x0001, 0x0006, kMessageIntegrity,       0x0009, 0x000A, 0x0014,
                               0x0015, 0x001D, kMessageIntegritySha256, 0x001E, 0x0020};
constexpr uint32_t kFingerprintMask = 0x5354554E;

uint16_t read16(const uint8_t* from) { return static_cast<uint16_t>(from[0] << 8 | from[1]); }

void write16(uint8_t* to, size_t value) {
  to[0] = static_cast<uint8_t>(value >> 8);
  to[1] = static_cast<uint8_t>(value);
}

bool is_known(uint16_t type) {
  for (const uint16_t known : kKnown)
    if (type == known) return true;
  return false;
}

/// CRC-32 of ITU V.42, bit by bit: the budget for STUN keeps it rare.
uint32_t crc32(Bytes bytes) {
  uint32_t crc = 0xffffffff;
  for (const uint8_t byte : bytes) {
    crc ^= byte;
    for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ ((crc & 1) != 0 ? 0xEDB88320 : 0);
  }
  return ~crc;
}

/// Whether the value of a FINGERPRINT is right for what stands before it.
bool is_fingerprint(Bytes before, const uint8_t* value) {
  const uint32_t given = static_cast<uint32_t>(read16(value)) << 16 | read16(value + 2);
  return (crc32(before) ^ kFingerprintMask) == given;
}

}  // namespace

StunResponse::StunResponse(Bytes request, const omerta_address& from) {
  const size_t length = read16(request.data() + 2);
  if (length % 4 != 0 || kHeader + length != request.size()) return;
  size_t unknown = 0;
  bool after_integrity = false;
  for (size_t at = kHeader; at < request.size();) {
    // The length is a multiple of four, and so is every step: an attribute's header always fits.
    const uint16_t type = read16(request.data() + at);
    const size_t size = read16(request.data() + at + 2);
    const size_t end = at + kAttributeHeader + (size + 3) / 4 * 4;
    if (end > request.size()) return;
    if (type == kFingerprint) {  // section 14.7: the last one
      if (size != 4 || end != request.size()) return;
      if (!is_fingerprint(request.first(at), request.data() + at + kAttributeHeader)) return;
    } else if (!after_integrity && type < kComprehensionOptional && !is_known(type) &&
               unknown < kMostUnknown) {
      write16(bytes_ + kUnknownAt + 2 * unknown++, type);
    }
    // Section 14.5: what comes after it is not covered by it, and is not looked at.
    after_integrity |= type == kMessageIntegrity || type == kMessageIntegritySha256;
    at = end;
  }
  std::memcpy(bytes_ + 4, request.data() + 4, 16);  // magic cookie, transaction id
  if (unknown > 0)
    refuse(unknown);
  else
    tell_address(from);
}

void StunResponse::tell_address(const omerta_address& from) {
  const bool v4 = omerta_load64(from.ip) == 0 && load<uint32_t>(from.ip + 8) == 0xffff0000;
  const size_t address_size = v4 ? 4 : 16;
  size_ = kAddressAt + address_size;
  write16(bytes_, 0x0101);  // binding success response
  write16(bytes_ + 2, size_ - kHeader);
  uint8_t* attribute = bytes_ + kHeader;
  write16(attribute, 0x0020);  // XOR-MAPPED-ADDRESS
  write16(attribute + 2, 4 + address_size);
  attribute[5] = v4 ? 1 : 2;
  store(attribute + 6, from.port);
  attribute[6] ^= kMagicCookie[0];
  attribute[7] ^= kMagicCookie[1];
  uint8_t* address = bytes_ + kAddressAt;
  std::memcpy(address, from.ip + (16 - address_size), address_size);
  for (size_t i = 0; i < address_size; i++) address[i] ^= bytes_[4 + i];  // magic cookie ‖ transaction id
}

void StunResponse::refuse(size_t unknown) {
  size_ = kUnknownAt + (2 * unknown + 3) / 4 * 4;
  write16(bytes_, 0x0111);  // binding error response
  write16(bytes_ + 2, size_ - kHeader);
  uint8_t* error = bytes_ + kHeader;
  write16(error, 0x0009);  // ERROR-CODE 420, without a reason phrase
  write16(error + 2, 4);
  error[6] = 4;
  error[7] = 20;
  write16(error + 8, 0x000A);  // UNKNOWN-ATTRIBUTES
  write16(error + 10, 2 * unknown);
}

}  // namespace omerta::udp
