// SPDX-License-Identifier: Apache-2.0
// Where packets of a peer may go that a worker opened: this node, an exit, a LAN behind it.
#include "worker_fixture.h"

namespace {

using namespace omerta;
using namespace omerta::engine;
using namespace omerta::check;

/// Both a and b may send everything to each other; b is 10.0.0.2 and lets a do as `transit` says.
struct ExitPair : Pair {
  explicit ExitPair(session::Transit transit) {
    const std::vector<session::Prefix> own = {*session::Prefix::parse("10.0.0.2/32")};
    const std::vector<session::ExitRule> rules = {{*session::Prefix::parse("10.0.0.64/26"), true},
                                                  {*session::Prefix::parse("10.0.0.70/32"), false}};
    const std::vector<session::ExitRule> lan = {{*session::Prefix::parse("10.0.0.72/32"), false}};
    b.shared.sessions->set_exit_rules(std::make_unique<session::ExitRules>(own, rules, lan));
    a.shared.sessions->set_peers({peer(2, "0.0.0.0/0")}, boot_clock(), a.out);
    session::PeerSettings held;
    held.public_key = peer(1, "0.0.0.0/0").public_key;
    held.transit = transit;
    b.shared.sessions->set_peers({held}, boot_clock(), b.out);
  }
  /// Sends one packet from a to 10.0.0.`to`. Returns whether the inside of b got it.
  bool arrives(uint8_t to) {
    b.port.sent.clear();
    a.port.waiting.push_back(super_packet(1, to));
    a.sealer.receive(boot_clock());
    b.receive();
    return !b.port.sent.empty();
  }
};

void a_peer_without_the_right_to_an_exit_reaches_this_node_alone() {
  ExitPair pair(session::Transit::none);
  CHECK(pair.arrives(2));
  CHECK(!pair.arrives(3) && !pair.arrives(70));
  CHECK(pair.b.counted(Counter::drop_no_exit_right) == 2 && pair.b.counted(Counter::drop_exit_denied) == 0);
}

void a_peer_with_the_right_reaches_what_the_rules_permit() {
  ExitPair pair(session::Transit::exit);
  CHECK(pair.arrives(2) && pair.arrives(3) && pair.arrives(70));
  CHECK(!pair.arrives(71));
  CHECK(pair.b.counted(Counter::drop_exit_denied) == 1 && pair.b.counted(Counter::drop_no_exit_right) == 0);
  pair.b.shared.sessions->set_exit_rules(
      std::make_unique<session::ExitRules>(std::vector<session::Prefix>{}));
  CHECK(pair.arrives(71));
}

void a_peer_with_the_right_to_a_lan_reaches_that_and_no_more() {
  ExitPair pair(session::Transit::lan);
  CHECK(pair.arrives(2) && pair.arrives(72));
  CHECK(!pair.arrives(3) && !pair.arrives(70) && !pair.arrives(71));
  CHECK(pair.b.counted(Counter::drop_exit_denied) == 3);
  ExitPair exit(session::Transit::exit);
  CHECK(!exit.arrives(72));
  ExitPair both(session::Transit::exit_and_lan);
  CHECK(both.arrives(72) && both.arrives(3) && !both.arrives(71));
}

void the_right_ends_with_the_next_packet() {
  ExitPair pair(session::Transit::exit);
  CHECK(pair.arrives(3));
  session::PeerSettings held;
  held.public_key = peer(1, "0.0.0.0/0").public_key;
  held.transit = session::Transit::none;
  pair.b.shared.sessions->set_peers({held}, boot_clock(), pair.b.out);
  CHECK(!pair.arrives(3) && pair.b.counted(Counter::drop_no_exit_right) == 1);
}

void a_peer_that_is_held_to_nothing_reaches_everything() {
  ExitPair pair(session::Transit::any);
  CHECK(pair.arrives(3) && pair.arrives(71));
}

}  // namespace

int main() {
  if (sodium_init() < 0) return 1;
  RUN(a_peer_without_the_right_to_an_exit_reaches_this_node_alone);
  RUN(a_peer_with_the_right_reaches_what_the_rules_permit);
  RUN(a_peer_with_the_right_to_a_lan_reaches_that_and_no_more);
  RUN(the_right_ends_with_the_next_packet);
  RUN(a_peer_that_is_held_to_nothing_reaches_everything);
  return omerta::check::finish();
}
