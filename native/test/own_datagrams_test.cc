// SPDX-License-Identifier: Apache-2.0
// Which packets of the TUN interface are the engine's own datagrams. 127.0.0.1 and ::1 are this host's.
#include "engine/own_datagrams.h"

#include <vector>

#include "check.h"

namespace {

using namespace omerta;

constexpr uint16_t kPort = 51820;

std::vector<uint8_t> datagram(uint8_t family, uint16_t port) {
  const size_t transport = family == 4 ? 20 : 40;
  std::vector<uint8_t> packet(transport + 8 + 32);
  uint8_t* b = packet.data();
  if (family == 4) {
    b[0] = 0x45;
    store(b + 2, htons(static_cast<uint16_t>(packet.size())));
    b[9] = inner::kUdp;
    b[12] = 127, b[15] = 1;
    b[16] = 192, b[19] = 1;
  } else {
    b[0] = 0x60;
    store(b + 4, htons(static_cast<uint16_t>(packet.size() - 40)));
    b[6] = inner::kUdp;
    b[23] = 1;
    b[24] = 0x20;
  }
  store(b + transport, htons(port));
  return packet;
}

bool own(std::vector<uint8_t> packet) {
  engine::OwnDatagrams datagrams;
  return datagrams.contain(inner::parse_ip(packet.data(), packet.size()), packet.data(), kPort, kSecond);
}

template <class Change>
bool own_after(uint8_t family, Change change) {
  std::vector<uint8_t> packet = datagram(family, kPort);
  change(packet);
  return own(packet);
}

void what_leaves_this_port_and_an_address_of_this_host_is_its_own() {
  for (const uint8_t family : {uint8_t{4}, uint8_t{6}}) {
    CHECK(own(datagram(family, kPort)));
    CHECK(!own(datagram(family, kPort + 1)));
    // A host behind this one may use the same port number.
    CHECK(!own_after(family, [&](auto& p) { p[family == 4 ? 12 : 8] = 203; }));
    CHECK(!own_after(family, [&](auto& p) { p[family == 4 ? 9 : 6] = inner::kTcp; }));
  }
}

void the_first_fragment_tells_and_the_others_do_not() {
  CHECK(own_after(4, [](auto& p) { p[6] = 0x20; }));
  CHECK(!own_after(4, [](auto& p) { p[7] = 1; }));
  const auto fragment = [](uint8_t offset) {
    return own_after(6, [=](auto& p) {
      const uint8_t header[8] = {inner::kUdp, 0, 0, static_cast<uint8_t>(offset | 1), 0, 0, 0, 9};
      p.insert(p.begin() + 40, header, header + 8);
      p[6] = 44;
      store(p.data() + 4, htons(static_cast<uint16_t>(p.size() - 40)));
    });
  };
  CHECK(fragment(0));
  CHECK(!fragment(8));
}

void options_and_short_packets_are_read_no_further_than_they_go() {
  CHECK(own_after(4, [](auto& p) {
    const uint8_t options[4] = {1, 1, 1, 1};
    p.insert(p.begin() + 20, options, options + 4);
    p[0] = 0x46;
    store(p.data() + 2, htons(static_cast<uint16_t>(p.size())));
  }));
  for (size_t size = 20; size < 28; size++)
    CHECK(!own_after(4, [=](auto& p) {
      p.resize(size);
      store(p.data() + 2, htons(static_cast<uint16_t>(size)));
    }));
  for (size_t size = 40; size < 48; size++)
    CHECK(!own_after(6, [=](auto& p) {
      p.resize(size);
      store(p.data() + 4, htons(static_cast<uint16_t>(size - 40)));
    }));
}

}  // namespace

int main() {
  RUN(what_leaves_this_port_and_an_address_of_this_host_is_its_own);
  RUN(the_first_fragment_tells_and_the_others_do_not);
  RUN(options_and_short_packets_are_read_no_further_than_they_go);
  return omerta::check::finish();
}
