// SPDX-License-Identifier: Apache-2.0
// In a network namespace of its own, with two ways out.
#include "udp/route_watch.h"

#include <net/if.h>
#include <sched.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <string>
#include <vector>

#include "check.h"

namespace {

using namespace omerta;
using namespace omerta::udp;

constexpr int kSkipped = 77;

omerta_address remote(uint8_t last) {
  omerta_address address{};
  const uint8_t ip[16] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 203, 0, 113, last};
  std::memcpy(address.ip, ip, sizeof ip);
  address.port = 1;
  return address;
}

LocalAddress local(uint8_t network) {
  LocalAddress address;
  const uint8_t ip[16] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 198, 51, network, 2};
  std::memcpy(address.ip, ip, sizeof ip);
  address.interface = if_nametoindex(("out" + std::to_string(network)).c_str());
  return address;
}

void type(const std::string& command) {
  if (std::system(command.c_str()) != 0) std::abort();
}

/// Two interfaces with an address and a router each; the first is the way out.
bool make_host() {
  if (unshare(CLONE_NEWNET) != 0) return false;
  // Else each interface tells seconds later that nobody has its link-local address (RFC 4862, section 5.4).
  type("(echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6) 2> /dev/null || true");
  for (const char* n : {"1", "2"}) {
    const std::string number = n;
    type("ip link add out" + number + " type veth peer name far" + number + " && ip link set out" + number +
         " up");
    type("ip link set far" + number + " up");
    type("ip address add 198.51." + number + ".2/24 dev out" + number);
  }
  type("ip route add default via 198.51.1.1 metric 1 && ip route add default via 198.51.2.1 metric 2");
  return true;
}

/// One remote that is sent to from an address, as the engine keeps it.
class Sticky {
 public:
  Sticky(ReturnAddresses& addresses, LocalAddress from)
      : local_(from), watch_(addresses, 0, [this](const RouteWatch::Moved& moved) {
          const std::lock_guard lock(mutex_);
          reviews_++;
          if (moved(remote(1), local_)) local_ = {};
        }) {}
  void hear(LocalAddress from) {
    const std::lock_guard lock(mutex_);
    local_ = from;
  }
  /// Whether the address was forgotten within this time.
  bool forgotten_within(int milliseconds) {
    for (int i = 0; i <= milliseconds; i++) {
      {
        const std::lock_guard lock(mutex_);
        if (!local_.known()) return true;
      }
      pause();
    }
    return false;
  }
  void wait_for_reviews(int more) {
    const int wanted = reviews() + more;
    while (reviews() < wanted) pause();
  }

 private:
  static void pause() {
    const timespec time{0, 1'000'000};
    nanosleep(&time, nullptr);
  }
  int reviews() {
    const std::lock_guard lock(mutex_);
    return reviews_;
  }
  std::mutex mutex_;
  LocalAddress local_;
  int reviews_ = 0;
  RouteWatch watch_;
};

void the_kernel_says_which_interface_a_datagram_leaves_by() {
  RouteLookup lookup;
  CHECK(lookup.interface_to(remote(1).ip, local(1).ip, 0) == if_nametoindex("out1"));
  CHECK(lookup.interface_to(remote(1).ip, local(2).ip, 0) == if_nametoindex("out1"));
  const LocalAddress nobodys = local(3);
  CHECK(lookup.interface_to(remote(1).ip, nobodys.ip, 0) == 0);
  const uint8_t six[16] = {0x20, 1, 0xd, 0xb8};
  CHECK(lookup.interface_to(six, six, 0) == 0);
}

void an_address_is_forgotten_when_its_way_leads_out_elsewhere_and_is_avoided_until_it_is_back() {
  ReturnAddresses known(100, {1, 2});
  Sticky sticky(known, local(1));
  sticky.wait_for_reviews(1);
  CHECK(!known.avoids(local(1)));
  type("ip route del default metric 1");
  CHECK(sticky.forgotten_within(5000));
  CHECK(known.avoids(local(1)) && !known.avoids(local(2)));
  type("ip route add default via 198.51.1.1 metric 1");
  for (int i = 0; i < 5000 && known.avoids(local(1)); i++) {
    const timespec time{0, 1'000'000};
    nanosleep(&time, nullptr);
  }
  CHECK(!known.avoids(local(1)));
}

void an_interface_that_goes_down_counts_and_nothing_else_in_between() {
  ReturnAddresses known(100, {1, 2});
  Sticky sticky(known, local(1));
  sticky.wait_for_reviews(1);
  type("ip link set out1 down");
  CHECK(sticky.forgotten_within(5000));
  type("ip link set out1 up && ip route add default via 198.51.1.1 metric 1");
}

void a_host_that_always_answered_by_another_interface_goes_on_so() {
  ReturnAddresses known(100, {1, 2});
  const timespec settled{0, 100'000'000};  // for what the tests before changed
  nanosleep(&settled, nullptr);
  Sticky sticky(known, local(2));  // it was asked by the second, and answers by the first
  sticky.wait_for_reviews(1);
  type("ip route add 192.0.2.0/24 via 198.51.2.1");
  type("ip route del 192.0.2.0/24");
  sticky.wait_for_reviews(2);
  CHECK(!sticky.forgotten_within(0) && !known.avoids(local(2)));
}

void a_remote_heard_just_before_a_change_is_compared_with_where_it_was_heard() {
  ReturnAddresses known(100, {1, 2});
  Sticky sticky(known, {});
  sticky.wait_for_reviews(1);
  sticky.hear(local(1));
  type("ip route del default metric 1");
  CHECK(sticky.forgotten_within(5000));
  type("ip route add default via 198.51.1.1 metric 1");
}

void nap() {
  const timespec time{0, 1'000'000};
  nanosleep(&time, nullptr);
}

void changes_are_told_at_most_four_times_a_second_and_the_last_of_them_too() {
  ReturnAddresses known(100, {1, 2});
  std::atomic<int> told{0};
  const RouteWatch watch(
      known, 0, [](const RouteWatch::Moved&) {}, [&told] { told++; });
  const auto wait_for = [&told](int count) {
    for (int i = 0; i < 5000 && told < count; i++) nap();
    return told >= count;
  };
  type("ip address add 203.0.113.1/32 dev out1");
  CHECK(wait_for(1));
  const auto begin = std::chrono::steady_clock::now();
  const int before = told;
  for (int i = 0; i < 20; i++)
    type("ip address add 203.0.113.2/32 dev out1 && ip address del 203.0.113.2/32 dev out1");
  type("ip address del 203.0.113.1/32 dev out1");
  const std::chrono::duration<double> busy = std::chrono::steady_clock::now() - begin;
  const int during = told;
  CHECK(during - before <= 2 + static_cast<int>(4 * busy.count()));
  for (int i = 0; i < 600; i++) nap();
  CHECK(told > before);
  const int last = told;
  for (int i = 0; i < 600; i++) nap();
  CHECK(told == last);
}

void without_any_route_in_between_the_next_one_is_compared_with_the_last() {
  ReturnAddresses known(100, {1, 2});
  Sticky sticky(known, local(1));
  sticky.wait_for_reviews(1);
  type("ip route del default metric 2 && ip route del default metric 1");
  sticky.wait_for_reviews(2);
  CHECK(!sticky.forgotten_within(0));
  type("ip route add default via 198.51.2.1 metric 2");
  CHECK(sticky.forgotten_within(5000));
}

}  // namespace

int main() {
  if (!make_host()) {
    std::printf("SKIP: a network namespace needs root\n");
    return kSkipped;
  }
  RUN(the_kernel_says_which_interface_a_datagram_leaves_by);
  RUN(an_address_is_forgotten_when_its_way_leads_out_elsewhere_and_is_avoided_until_it_is_back);
  RUN(an_interface_that_goes_down_counts_and_nothing_else_in_between);
  RUN(a_host_that_always_answered_by_another_interface_goes_on_so);
  RUN(a_remote_heard_just_before_a_change_is_compared_with_where_it_was_heard);
  RUN(changes_are_told_at_most_four_times_a_second_and_the_last_of_them_too);
  RUN(without_any_route_in_between_the_next_one_is_compared_with_the_last);
  return omerta::check::finish();
}
