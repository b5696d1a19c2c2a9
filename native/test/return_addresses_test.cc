// SPDX-License-Identifier: Apache-2.0
// Which of our addresses each remote talks to.
#include "udp/return_addresses.h"

#include <cstring>
#include <thread>
#include <vector>

#include "check.h"
#include "loopback.h"

namespace {

using namespace omerta;
using namespace omerta::udp;
using omerta::check::loopback;

constexpr uint64_t kKey[2] = {0x0123456789abcdef, 0xfedcba9876543210};

omerta_address remote(uint32_t number) {
  omerta_address address = loopback(static_cast<uint16_t>(number >> 16));
  address.ip[14] = static_cast<uint8_t>(number >> 8);
  address.ip[15] = static_cast<uint8_t>(number);
  return address;
}

LocalAddress local(uint8_t last, uint32_t interface = 0) {
  LocalAddress address;
  const omerta_address ip = loopback(0);
  std::memcpy(address.ip, ip.ip, 16);
  address.ip[15] = last;
  address.interface = interface;
  return address;
}

constexpr SoleAddresses kNoneAndNotSeveral = [] {
  SoleAddresses sole;
  sole.several = false;
  return sole;
}();

bool is(const LocalAddress& a, const LocalAddress& b) {
  return a.interface == b.interface && std::memcmp(a.ip, b.ip, 16) == 0;
}

void a_remote_keeps_the_address_it_last_sent_to() {
  ReturnAddresses table(1000, kKey);
  table.prepare();
  CHECK(!table.find(remote(1)).known());
  table.learn(remote(1), local(5, 7));
  table.learn(remote(2), local(6));
  CHECK(is(table.find(remote(1)), local(5)));  // the interface is routing's
  CHECK(is(table.find(remote(2)), local(6)));
  table.learn(remote(1), local(6));
  CHECK(is(table.find(remote(1)), local(6)));
  omerta_address other_port = remote(1);
  other_port.port++;
  CHECK(!table.find(other_port).known());
  table.clear();
  CHECK(!table.find(remote(1)).known());
}

void an_address_that_is_the_only_one_of_its_family_is_left_to_routing() {
  ReturnAddresses table(1000, kKey);
  table.prepare();
  SoleAddresses sole;
  std::memcpy(sole.ipv4, local(5).ip, 16);
  sole.ipv6[0] = 0x20;
  LocalAddress local6;
  local6.ip[0] = 0x20;
  table.set_sole(sole);
  table.learn(remote(1), local(5));
  table.learn(remote(2), local6);
  CHECK(!table.find(remote(1)).known() && !table.find(remote(2)).known());
  table.learn(remote(3), local(6));  // one that came since
  CHECK(is(table.find(remote(3)), local(6)));
  CHECK(!table.find(remote(1)).known());
  sole.ipv4[15] = 6;  // the other went
  table.set_sole(sole);
  CHECK(is(table.find(remote(1)), local(5)) && !table.find(remote(3)).known());
  table.set_sole({});
  CHECK(is(table.find(remote(1)), local(5)) && is(table.find(remote(2)), local6));
}

void a_host_without_a_choice_has_no_memory_for_it() {
  ReturnAddresses table(1000, kKey);
  SoleAddresses sole = kNoneAndNotSeveral;
  std::memcpy(sole.ipv4, local(5).ip, 16);
  table.set_sole(sole);
  table.prepare();
  table.learn(remote(1), local(5));
  table.prepare();
  CHECK(table.memory() == 0 && !table.find(remote(1)).known());
  table.clear();

  // A remote sends to an address nobody knew of. No packet waits for the memory: a timer brings it.
  table.learn(remote(2), local(6));
  CHECK(table.memory() == 0 && !table.find(remote(2)).known());
  table.prepare();
  CHECK(table.memory() == 8000);
  table.learn(remote(1), local(5));
  table.learn(remote(2), local(6));
  CHECK(!table.find(remote(1)).known() && is(table.find(remote(2)), local(6)));
  table.set_sole(sole);
  table.prepare();
  CHECK(table.memory() == 8000 && is(table.find(remote(2)), local(6)));
}

void a_host_with_several_addresses_has_it_at_once() {
  ReturnAddresses table(1000, kKey);
  table.set_sole({});
  CHECK(table.memory() == 0);
  table.prepare();
  CHECK(table.memory() == 8000);
  table.learn(remote(1), local(5));
  CHECK(is(table.find(remote(1)), local(5)));
}

void a_link_local_address_keeps_its_interface() {
  ReturnAddresses table(1000, kKey);
  table.prepare();
  LocalAddress link{};
  link.ip[0] = 0xfe;
  link.ip[1] = 0x80;
  link.ip[15] = 1;
  link.interface = 4;
  table.learn(remote(1), link);
  CHECK(is(table.find(remote(1)), link));
}

void what_nothing_can_be_sent_from_is_not_learned() {
  ReturnAddresses table(1000, kKey);
  table.prepare();
  LocalAddress broadcast = local(255);
  std::memset(broadcast.ip + 12, 255, 4);
  LocalAddress multicast = local(1);
  multicast.ip[12] = 224;
  LocalAddress multicast6{};
  multicast6.ip[0] = 0xff;
  for (const LocalAddress& none : {LocalAddress{}, broadcast, multicast, multicast6}) {
    table.learn(remote(1), none);
    CHECK(!table.find(remote(1)).known());
  }
}

void as_many_remotes_as_it_was_made_for_are_nearly_all_kept_and_more_do_no_harm() {
  constexpr uint32_t kRemotes = 20000;
  ReturnAddresses table(kRemotes, kKey);
  table.prepare();
  const auto kept = [&](uint32_t count) {
    uint32_t found = 0, mistaken = 0;
    for (uint32_t i = 0; i < count; i++) {
      const LocalAddress address = table.find(remote(i));
      if (!address.known()) continue;
      is(address, local(static_cast<uint8_t>(i % 200))) ? found++ : mistaken++;
    }
    CHECK(mistaken <= 4);  // of 400,000 with a chance of 16 in 2^24 each
    return found;
  };
  for (uint32_t i = 0; i < kRemotes; i++) table.learn(remote(i), local(static_cast<uint8_t>(i % 200)));
  CHECK(kept(kRemotes) > kRemotes * 97 / 100);
  for (uint32_t i = 0; i < 20 * kRemotes; i++) table.learn(remote(i), local(static_cast<uint8_t>(i % 200)));
  CHECK(kept(20 * kRemotes) > kRemotes);
}

void more_local_addresses_than_have_a_number_are_not_learned() {
  ReturnAddresses table(1000, kKey);
  table.prepare();
  for (uint32_t i = 0; i < 300; i++) {
    LocalAddress address = local(static_cast<uint8_t>(i));
    address.ip[14] = static_cast<uint8_t>(i >> 8);
    table.learn(remote(i), address);
    CHECK(table.find(remote(i)).known() == (i < 255));
  }
}

void workers_learn_and_look_up_at_once() {
  ReturnAddresses table(256, kKey);
  table.set_sole(kNoneAndNotSeveral);
  std::vector<std::thread> threads;
  std::atomic<bool> wrong{false};
  for (uint8_t t = 0; t < 4; t++)
    threads.emplace_back([&, t] {
      for (uint32_t i = 0; i < 20000; i++) {
        table.learn(remote(i % 300), local(static_cast<uint8_t>(1 + i % 300 % 50)));
        const LocalAddress found = table.find(remote((i + t) % 300));
        if (t == 0) table.prepare();  // the memory comes while they are at it
        if (found.known() && !is(found, local(static_cast<uint8_t>(1 + (i + t) % 300 % 50)))) wrong = true;
      }
    });
  for (std::thread& thread : threads) thread.join();
  CHECK(!wrong && table.memory() != 0);
}

}  // namespace

int main() {
  RUN(a_remote_keeps_the_address_it_last_sent_to);
  RUN(an_address_that_is_the_only_one_of_its_family_is_left_to_routing);
  RUN(a_host_without_a_choice_has_no_memory_for_it);
  RUN(a_host_with_several_addresses_has_it_at_once);
  RUN(a_link_local_address_keeps_its_interface);
  RUN(what_nothing_can_be_sent_from_is_not_learned);
  RUN(as_many_remotes_as_it_was_made_for_are_nearly_all_kept_and_more_do_no_harm);
  RUN(more_local_addresses_than_have_a_number_are_not_learned);
  RUN(workers_learn_and_look_up_at_once);
  return omerta::check::finish();
}
