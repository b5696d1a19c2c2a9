// SPDX-License-Identifier: Apache-2.0
// What the sender of a packet is told that cannot be sent on.
#include "inner/icmp_error.h"

#include "check.h"
#include "super_packets.h"

namespace {

using namespace omerta;
using namespace omerta::inner;
using namespace omerta::test;

void an_unreachable_answer_quotes_the_packet_and_its_checksums_verify() {
  for (const uint8_t family : {uint8_t{4}, uint8_t{6}}) {
    SuperPacket p = make(family, kUdp, 3000, 0);
    const IpView ip = parse_ip(p.bytes.data(), p.bytes.size());
    std::vector<uint8_t> answer = icmp_unreachable(ip, p.bytes.data());
    CHECK(answer.size() == (family == 4 ? 576 : 1280));
    const IpView back = parse_ip(answer.data(), answer.size());
    CHECK(back.length == answer.size());
    CHECK(std::memcmp(back.source, ip.destination, ip.address_size) == 0);
    CHECK(std::memcmp(back.destination, ip.source, ip.address_size) == 0);
    if (family == 4) {
      CHECK(checksum_finish(checksum_add(answer.data(), 20)) == 0);
      CHECK(checksum_finish(checksum_add(answer.data() + 20, answer.size() - 20)) == 0);
      CHECK(answer[20] == 3 && answer[21] == 1);
      CHECK(std::memcmp(answer.data() + 28, p.bytes.data(), 548) == 0);
    } else {
      CHECK(checksums_verify(answer, 58));
      CHECK(answer[40] == 1 && answer[41] == 3);
    }
    // An error is never answered by an error.
    CHECK(icmp_unreachable(back, answer.data()).empty());
  }
}

void no_unreachable_answer_goes_to_multicast_broadcast_fragments_or_nobody() {
  const auto answered = [](auto change, uint8_t family) {
    SuperPacket p = make(family, kUdp, 100, 0);
    change(p.bytes.data());
    return !icmp_unreachable(parse_ip(p.bytes.data(), p.bytes.size()), p.bytes.data()).empty();
  };
  CHECK(answered([](uint8_t*) {}, 4) && answered([](uint8_t*) {}, 6));
  CHECK(!answered([](uint8_t* b) { b[16] = 224; }, 4));                  // to multicast
  CHECK(!answered([](uint8_t* b) { std::memset(b + 16, 255, 4); }, 4));  // to broadcast
  CHECK(!answered([](uint8_t* b) { std::memset(b + 12, 0, 4); }, 4));    // from nobody
  CHECK(!answered([](uint8_t* b) { b[7] = 1; }, 4));                     // a later fragment
  CHECK(!answered([](uint8_t* b) { b[24] = 0xff; }, 6));
  CHECK(!answered([](uint8_t* b) { std::memset(b + 8, 0, 16); }, 6));
  CHECK(answered([](uint8_t* b) { b[9] = 1, b[20] = 8; }, 4));    // an echo request is answered
  CHECK(!answered([](uint8_t* b) { b[9] = 1, b[20] = 11; }, 4));  // time exceeded is not
}

void a_too_big_answer_says_how_long_a_packet_may_be_and_verifies() {
  for (const uint8_t family : {uint8_t{4}, uint8_t{6}}) {
    SuperPacket p = make(family, kUdp, 1400, 0);
    const IpView ip = parse_ip(p.bytes.data(), p.bytes.size());
    std::vector<uint8_t> answer = icmp_too_big(ip, p.bytes.data(), 1320);
    const IpView back = parse_ip(answer.data(), answer.size());
    CHECK(back.length == answer.size());
    CHECK(std::memcmp(back.source, ip.destination, ip.address_size) == 0);
    if (family == 4) {
      CHECK(checksum_finish(checksum_add(answer.data() + 20, answer.size() - 20)) == 0);
      CHECK(answer[20] == 3 && answer[21] == 4);
    } else {
      CHECK(checksums_verify(answer, 58));
      CHECK(answer[40] == 2 && answer[41] == 0);
    }
    // RFC 1191 4 and RFC 4443 3.2: the last two bytes before what is quoted, zeros in front of them.
    CHECK(load<uint32_t>(answer.data() + (family == 4 ? 24 : 44)) == htonl(1320));
    CHECK(icmp_too_big(back, answer.data(), 1320).empty());
  }
  SuperPacket p = make(4, kUdp, 1400, 0);
  p.bytes[6] = 0;  // may be fragmented
  CHECK(icmp_too_big(parse_ip(p.bytes.data(), p.bytes.size()), p.bytes.data(), 1320).empty());
}

}  // namespace

int main() {
  if (sodium_init() < 0) return 1;
  RUN(an_unreachable_answer_quotes_the_packet_and_its_checksums_verify);
  RUN(no_unreachable_answer_goes_to_multicast_broadcast_fragments_or_nobody);
  RUN(a_too_big_answer_says_how_long_a_packet_may_be_and_verifies);
  return omerta::check::finish();
}
