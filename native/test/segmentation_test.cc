// SPDX-License-Identifier: Apache-2.0
// Super-packets become whole packets whose checksums verify, as short as is wanted.
#include "inner/segmentation.h"

#include "check.h"
#include "super_packets.h"

namespace {

using namespace omerta;
using namespace omerta::inner;
using namespace omerta::test;

void segments_are_whole_packets_with_good_checksums_and_the_payload_in_order() {
  for (const uint8_t family : {uint8_t{4}, uint8_t{6}})
    for (const uint8_t protocol : {kTcp, kUdp})
      for (size_t payload : {size_t{1}, size_t{1000}, size_t{1001}, size_t{30000}, size_t{64000}}) {
        SuperPacket p = make(family, protocol, payload, 1000);
        const Segmentation segments(p.header, p.bytes.data(), p.bytes.size());
        CHECK(segments.valid() && segments.count() == (payload + 999) / 1000);
        std::vector<uint8_t> joined;
        for (size_t i = 0; i < segments.count(); i++) {
          std::vector<uint8_t> packet(segments.size(i));
          segments.write(i, packet.data());
          CHECK(checksums_verify(packet, protocol));
          if (protocol == kTcp) {
            CHECK(ntohl(load<uint32_t>(packet.data() + p.transport + 4)) ==
                  0xfffffff0u + static_cast<uint32_t>(joined.size()));
            const bool last = i + 1 == segments.count();
            CHECK(((packet[p.transport + 13] & 0x08) != 0) == last);  // PSH on the last only
          }
          joined.insert(joined.end(), packet.begin() + static_cast<long>(p.headers), packet.end());
        }
        CHECK(joined == std::vector<uint8_t>(p.bytes.begin() + static_cast<long>(p.headers), p.bytes.end()));
      }
}

void a_packet_without_segmentation_gets_its_checksum_completed() {
  for (const uint8_t family : {uint8_t{4}, uint8_t{6}}) {
    SuperPacket p = make(family, kUdp, 333, 0);
    p.header.gso_type = kGsoNone;
    uint8_t* field = p.bytes.data() + p.transport + 6;
    const IpView ip = parse_ip(p.bytes.data(), p.bytes.size());
    store(field, checksum_fold(pseudo_header_sum(ip, kUdp, p.bytes.size() - p.transport)));
    const Segmentation segments(p.header, p.bytes.data(), p.bytes.size());
    CHECK(segments.count() == 1);
    std::vector<uint8_t> packet(segments.size(0));
    segments.write(0, packet.data());
    CHECK(checksums_verify(packet, kUdp));
  }
}

void headers_that_disagree_with_the_packet_are_refused() {
  SuperPacket p = make(4, kTcp, 3000, 1000);
  const auto valid = [&](VirtioNetHeader h, size_t size) {
    return Segmentation(h, p.bytes.data(), size).valid();
  };
  VirtioNetHeader h = p.header;
  CHECK(valid(h, p.bytes.size()));
  h.gso_size = 0;
  CHECK(!valid(h, p.bytes.size()));
  h = p.header;
  h.gso_type = kGsoTcp6;
  CHECK(!valid(h, p.bytes.size()));
  h.gso_type = 77;
  CHECK(!valid(h, p.bytes.size()));
  h = p.header;
  h.checksum_start = 65535;
  CHECK(!valid(h, p.bytes.size()));
  h.checksum_start = 4;
  CHECK(!valid(h, p.bytes.size()));
  CHECK(!valid(p.header, p.bytes.size() - 1));  // shorter than the IP header says
  for (size_t size = 0; size < 60; size++) CHECK(!valid(p.header, size));
  h = p.header;
  h.gso_type = kGsoNone;
  h.checksum_offset = 65535;
  CHECK(!valid(h, p.bytes.size()));
  p.bytes[0] = 0x4f;  // an IP header that reaches beyond where the transport header is said to start
  CHECK(!valid(p.header, p.bytes.size()));
}

void a_super_packet_with_endless_headers_is_refused() {
  // Sealing makes room for the headers in front of each segment.
  SuperPacket p = make(6, kUdp, 60000, 8);
  for (const size_t headers : {Segmentation::kMaxHeaders, Segmentation::kMaxHeaders + 1, size_t{50000}}) {
    p.header.checksum_start = static_cast<uint16_t>(headers - 8);
    CHECK(Segmentation(p.header, p.bytes.data(), p.bytes.size()).valid() ==
          (headers == Segmentation::kMaxHeaders));
  }
}

void a_tcp_super_packet_is_split_as_short_as_wanted_and_nothing_else_is() {
  for (const uint8_t family : {uint8_t{4}, uint8_t{6}})
    for (const size_t longest : {size_t{99}, size_t{500}, size_t{999}}) {
      SuperPacket p = make(family, kTcp, 30000, 1000);
      Segmentation segments(p.header, p.bytes.data(), p.bytes.size());
      CHECK(segments.limit(longest));
      std::vector<uint8_t> payload;
      for (size_t i = 0; i < segments.count(); i++) {
        std::vector<uint8_t> packet(segments.size(i));
        segments.write(i, packet.data());
        CHECK(packet.size() <= longest && checksums_verify(packet, kTcp));
        CHECK(ntohl(load<uint32_t>(packet.data() + p.transport + 4)) ==
              static_cast<uint32_t>(0xfffffff0u + payload.size()));
        payload.insert(payload.end(), packet.begin() + static_cast<ptrdiff_t>(p.headers), packet.end());
      }
      CHECK(std::equal(payload.begin(), payload.end(), p.bytes.begin() + static_cast<ptrdiff_t>(p.headers),
                       p.bytes.end()));
    }
  SuperPacket tcp = make(4, kTcp, 30000, 1000);
  Segmentation segments(tcp.header, tcp.bytes.data(), tcp.bytes.size());
  const size_t count = segments.count();
  CHECK(segments.limit(1052) && segments.count() == count);
  CHECK(!segments.limit(tcp.headers) && segments.count() == count);
  SuperPacket udp = make(4, kUdp, 30000, 1000);
  CHECK(!Segmentation(udp.header, udp.bytes.data(), udp.bytes.size()).limit(500));
  SuperPacket alone = make(4, kTcp, 900, 1000);
  alone.header.gso_type = kGsoNone;
  CHECK(!Segmentation(alone.header, alone.bytes.data(), alone.bytes.size()).limit(500));
}

}  // namespace

int main() {
  if (sodium_init() < 0) return 1;
  RUN(segments_are_whole_packets_with_good_checksums_and_the_payload_in_order);
  RUN(a_packet_without_segmentation_gets_its_checksum_completed);
  RUN(headers_that_disagree_with_the_packet_are_refused);
  RUN(a_super_packet_with_endless_headers_is_refused);
  RUN(a_tcp_super_packet_is_split_as_short_as_wanted_and_nothing_else_is);
  return omerta::check::finish();
}
