// SPDX-License-Identifier: Apache-2.0
// STUN binding requests of strangers: silence for what is not well-formed, and otherwise one answer of the
// same transaction that says where the request came from, or names the attributes nobody here knows; never
// more than 44 bytes, or 32 and two for each named attribute, whatever the request holds.
//
// input: selector u8 · port u16 · address 16 · datagram
//   selector bit 0: make type, length and magic cookie those of a binding request
//   selector bit 1: an IPv4 sender
//   selector bit 2: append the right FINGERPRINT, which no mutation would keep
#include "fuzz/fuzz_input.h"
#include "udp/stun.h"

using namespace omerta;
using omerta::fuzz::require;

namespace {

constexpr size_t kHeader = 20;
constexpr size_t kMostUnknown = 16;

uint16_t word(const std::vector<uint8_t>& bytes, size_t at) {
  return static_cast<uint16_t>(bytes[at] << 8 | bytes[at + 1]);
}

void set_word(std::vector<uint8_t>& bytes, size_t at, size_t value) {
  bytes[at] = static_cast<uint8_t>(value >> 8);
  bytes[at + 1] = static_cast<uint8_t>(value);
}

/// CRC-32 of ITU V.42 as the remainder of the reflected polynomial, by a table: not how stun.cc has it.
uint32_t checksum(const uint8_t* bytes, size_t size) {
  uint32_t table[256];
  for (uint32_t i = 0; i < 256; i++) {
    uint32_t remainder = i;
    for (int bit = 0; bit < 8; bit++)
      remainder = (remainder & 1) != 0 ? 0xEDB88320 ^ (remainder >> 1) : remainder >> 1;
    table[i] = remainder;
  }
  uint32_t crc = 0xffffffff;
  for (size_t i = 0; i < size; i++) crc = table[(crc ^ bytes[i]) & 0xff] ^ (crc >> 8);
  return crc ^ 0xffffffff;
}

uint32_t fingerprint(const std::vector<uint8_t>& bytes, size_t size) {
  return checksum(bytes.data(), size) ^ 0x5354554E;
}

void append_fingerprint(std::vector<uint8_t>& request) {
  const size_t at = request.size();
  request.resize(at + 8);
  set_word(request, 2, request.size() - kHeader);
  const uint32_t value = fingerprint(request, at);
  set_word(request, at, 0x8028);
  set_word(request, at + 2, 4);
  set_word(request, at + 4, value >> 16);
  set_word(request, at + 6, value & 0xffff);
}

/// What RFC 8489 says of a request: whether it is well-formed, and which attributes have to be understood
/// and are not of that document.
struct Reading {
  bool well_formed = false;
  std::vector<uint16_t> unknown;
};

Reading read(const std::vector<uint8_t>& request) {
  Reading reading;
  const size_t length = word(request, 2);
  if (length % 4 != 0 || length != request.size() - kHeader) return reading;
  bool covered = false;  // by MESSAGE-INTEGRITY: what follows is not looked at
  size_t at = kHeader;
  while (at + 4 <= request.size()) {
    const uint16_t type = word(request, at);
    const size_t size = word(request, at + 2);
    const size_t next = at + 4 + size + (4 - size % 4) % 4;
    if (next > request.size()) return reading;
    if (type == 0x8028) {
      if (size != 4 || next != request.size()) return reading;
      if ((static_cast<uint32_t>(word(request, at + 4)) << 16 | word(request, at + 6)) !=
          fingerprint(request, at))
        return reading;
    }
    switch (type) {
      case 0x0001:  // MAPPED-ADDRESS
      case 0x0006:  // USERNAME
      case 0x0009:  // ERROR-CODE
      case 0x000A:  // UNKNOWN-ATTRIBUTES
      case 0x0014:  // REALM
      case 0x0015:  // NONCE
      case 0x001D:  // PASSWORD-ALGORITHM
      case 0x001E:  // USERHASH
      case 0x0020:  // XOR-MAPPED-ADDRESS
        break;
      case 0x0008:  // MESSAGE-INTEGRITY
      case 0x001C:  // MESSAGE-INTEGRITY-SHA256
        covered = true;
        break;
      default:
        if (type < 0x8000 && !covered && reading.unknown.size() < kMostUnknown)
          reading.unknown.push_back(type);
    }
    at = next;
  }
  reading.well_formed = at == request.size();
  return reading;
}

void check_address(const std::vector<uint8_t>& answer, const omerta_address& from, bool v4) {
  require(answer.size() == (v4 ? 32u : 44u));
  require(word(answer, 0) == 0x0101 && word(answer, 20) == 0x0020);
  require(word(answer, 22) == (v4 ? 8 : 20) && word(answer, 24) == (v4 ? 1 : 2));
  uint8_t port[2];
  std::memcpy(port, &from.port, sizeof port);
  for (size_t i = 0; i < sizeof port; i++) require((answer[26 + i] ^ answer[4 + i]) == port[i]);
  for (size_t i = 28; i < answer.size(); i++)
    require((answer[i] ^ answer[i - 24]) == from.ip[i - 28 + (v4 ? 12 : 0)]);
}

void check_refusal(const std::vector<uint8_t>& answer, const std::vector<uint16_t>& unknown) {
  require(answer.size() == 32 + (unknown.size() + 1) / 2 * 4);
  require(word(answer, 0) == 0x0111);
  require(word(answer, 20) == 0x0009 && word(answer, 22) == 4);
  require(word(answer, 24) == 0 && answer[26] == 4 && answer[27] == 20);
  require(word(answer, 28) == 0x000A && word(answer, 30) == 2 * unknown.size());
  for (size_t i = 0; i < unknown.size(); i++) require(word(answer, 32 + 2 * i) == unknown[i]);
  for (size_t i = 32 + 2 * unknown.size(); i < answer.size(); i++) require(answer[i] == 0);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  fuzz::Input input(data, size);
  const uint8_t selector = input.byte();
  omerta_address from{};
  from.port = input.word();
  const std::vector<uint8_t> address = input.bytes(sizeof from.ip);
  std::copy(address.begin(), address.end(), from.ip);
  if ((selector & 2) != 0) {
    std::memset(from.ip, 0, 10);
    from.ip[10] = from.ip[11] = 0xff;
  }
  std::vector<uint8_t> request = input.bytes(UINT16_MAX - 8);
  if ((selector & 1) != 0 && request.size() >= kHeader) {
    set_word(request, 0, 1);
    set_word(request, 2, request.size() - kHeader);
    set_word(request, 4, 0x2112);
    set_word(request, 6, 0xA442);
    if ((selector & 4) != 0) append_fingerprint(request);
  }
  if (omerta_classify(request.data(), static_cast<__u32>(request.size())).verdict != OMERTA_STUN) return 0;

  const std::vector<uint8_t> before = request;
  const udp::StunResponse response(request, from);
  const std::vector<uint8_t> answer(response.bytes().begin(), response.bytes().end());
  const udp::StunResponse second(request, from);
  require(request == before);
  require(std::equal(answer.begin(), answer.end(), second.bytes().begin(), second.bytes().end()));

  const Reading reading = read(request);
  require(reading.well_formed == !answer.empty());
  if (answer.empty()) return 0;
  // Of the same transaction, as long as it says, and no tool to reflect with.
  require(answer.size() >= kHeader && word(answer, 2) == answer.size() - kHeader);
  require(std::memcmp(answer.data() + 4, request.data() + 4, 16) == 0);
  require(answer.size() <= request.size() + 24 && answer.size() <= 32 + 2 * kMostUnknown);
  if (!reading.unknown.empty()) {
    check_refusal(answer, reading.unknown);
    return 0;
  }
  const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
  check_address(answer, from, std::memcmp(from.ip, mapped, sizeof mapped) == 0);
  return 0;
}
