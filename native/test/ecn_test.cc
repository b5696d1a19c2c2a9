// SPDX-License-Identifier: Apache-2.0
// The ECN field through the tunnel: every cell of RFC 6040's table, and the header checksum after it.
#include "common/ecn.h"

#include <cstdlib>
#include <vector>

#include "check.h"
#include "inner/checksum.h"

namespace {

using namespace omerta;

std::vector<uint8_t> packet(uint8_t family, uint8_t ecn, uint8_t dscp, uint16_t identification) {
  std::vector<uint8_t> p(40, 0);
  const auto traffic_class = static_cast<uint8_t>(dscp << 2 | ecn);
  if (family == 4) {
    p[0] = 0x45;
    p[1] = traffic_class;
    p[3] = 40;
    store(p.data() + 4, identification);
    p[8] = 64;
    p[9] = 6;
    p[12] = 10, p[16] = 10, p[19] = 7;
    store(p.data() + 10, inner::checksum_finish(inner::checksum_add(p.data(), 20)));
  } else {
    p[0] = static_cast<uint8_t>(0x60 | traffic_class >> 4);
    p[1] = static_cast<uint8_t>(traffic_class << 4 | 0x0a);  // and some of the flow label
    p[6] = 59;
  }
  return p;
}

uint8_t dscp_of(const std::vector<uint8_t>& p) {
  return static_cast<uint8_t>((p[0] >> 4 == 4 ? p[1] : p[0] << 4 | p[1] >> 4) >> 2 & 63);
}

constexpr int kDrop = -1;
/// RFC 6040 figure 4: rows are the inner field, columns the outer one, both in numerical order.
constexpr int kTable[4][4] = {
    {kNotEct, kNotEct, kNotEct, kDrop},
    {kEct1, kEct1, kEct1, kCongestionExperienced},
    {kEct0, kEct1, kEct0, kCongestionExperienced},
    {kCongestionExperienced, kCongestionExperienced, kCongestionExperienced, kCongestionExperienced},
};

void every_cell_of_the_table_holds_and_nothing_else_changes() {
  for (const uint8_t family : {uint8_t{4}, uint8_t{6}})
    for (uint8_t inner = 0; inner < 4; inner++)
      for (uint8_t outer = 0; outer < 4; outer++)
        for (uint32_t round = 0; round < 200; round++) {
          const auto dscp = static_cast<uint8_t>(std::rand() & 63);
          const auto identification = static_cast<uint16_t>(std::rand());
          std::vector<uint8_t> p = packet(family, inner, dscp, identification);
          CHECK(ecn_of(p.data()) == inner);
          const bool kept = decapsulate_ecn(p.data(), outer);
          const int expected = kTable[inner][outer];
          CHECK(kept == (expected != kDrop));
          if (expected == kDrop) continue;
          CHECK(ecn_of(p.data()) == expected);
          CHECK(dscp_of(p) == dscp);
          CHECK(p == packet(family, static_cast<uint8_t>(expected), dscp, identification));
        }
}

void a_header_checksum_that_was_wrong_stays_wrong() {
  std::vector<uint8_t> p = packet(4, kEct0, 0, 1);
  p[10] ^= 0x40;
  CHECK(decapsulate_ecn(p.data(), kCongestionExperienced));
  CHECK(ecn_of(p.data()) == kCongestionExperienced);
  CHECK(inner::checksum_finish(inner::checksum_add(p.data(), 20)) != 0);
}

void what_is_no_ip_packet_has_no_ecn() {
  const uint8_t control[20] = {0xC0, 3};
  CHECK(ecn_of(control) == kNotEct);
}

}  // namespace

int main() {
  RUN(every_cell_of_the_table_holds_and_nothing_else_changes);
  RUN(a_header_checksum_that_was_wrong_stays_wrong);
  RUN(what_is_no_ip_packet_has_no_ecn);
  return omerta::check::finish();
}
