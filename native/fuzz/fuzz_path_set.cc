// SPDX-License-Identifier: Apache-2.0
// The ways to a peer that may send anything inside its session: path frames well-formed and not, from
// everywhere and again, while sets are replaced, keys renewed and time passes. The input is a program: an
// instruction, an argument, and what it takes.
//
// What has to hold after every instruction:
//   - a path frame moves nothing, is never answered by more bytes than it has, and only where it came from
//   - a peer with paths is reached by the active one and nowhere else
//   - what is read of a frame is what writing it again gives
//   - what is told has a bound for each second, whatever is sent
#include <sodium.h>

#include <deque>
#include <map>
#include <optional>

#include "fuzz_input.h"
#include "session/session_table.h"
#include "session/transport_message.h"

using namespace omerta;
using namespace omerta::session;
using omerta::fuzz::Input;
using omerta::fuzz::require;

namespace {

constexpr int kMaxInstructions = 500;

Endpoint place(uint8_t number) {
  Endpoint e;
  if (number % 8 == 7) {
    e.receive_leg = 5;
    e.send_leg = 6;
  }
  e.remote.ip[10] = e.remote.ip[11] = 0xff;
  e.remote.ip[12] = 10;
  e.remote.ip[15] = static_cast<uint8_t>(number % 4);
  e.remote.port = 1;
  if (number % 8 >= 4) e.local.ip[15] = 1;
  return e;
}

class Node final : public SessionOutput {
 public:
  explicit Node(uint8_t seed)
      : table(
            [seed] {
              Key32 key;
              key.fill(seed);
              return key;
            }(),
            1, 1,
            {[this](std::span<uint8_t> out) {
               for (uint8_t& byte : out)
                 byte = static_cast<uint8_t>((random = random * 6364136223846793005u + 1) >> 33);
             },
             [this] {
               Timestamp stamp{};
               store(stamp.data() + 4, __builtin_bswap64(++stamps));
               return stamp;
             }}) {
    table.qsbr().quiescent(0);
  }
  void send(const Endpoint& to, Bytes message, uint8_t) override {
    sent.push_back({to, {message.begin(), message.end()}});
  }
  void session_established(Peer&, const Endpoint&) override {}
  void endpoint_changed(Peer&) override {}
  void path_needed(Peer&) override {}
  void session_lost(Peer&) override {}
  void suite_step(SuiteStep) override {}
  void path_event(Peer&, const PathEvent& event) override { told[event.kind]++; }
  void path_duplicate() override {}

  Peer& peer() {
    Peer* found = nullptr;
    table.for_each([&](Peer& one) { found = &one; });
    return *found;
  }

  struct Sent {
    Endpoint to;
    std::vector<uint8_t> bytes;
  };
  uint64_t random = 1;
  uint64_t stamps = 0;
  std::deque<Sent> sent;
  std::map<PathEvent::Kind, uint64_t> told;
  crypto::Aead aead{crypto::AeadChoice{}};
  SessionTable table;
};

struct World {
  Node peer{1};  ///< may send anything
  Node own{2};   ///< what is tested
  Nanoseconds now = 1000 * kSecond;
  std::vector<uint8_t> last;
  uint64_t appeared = 0;  ///< how often there was a set where there was none, with budgets of its own

  World() {
    for (auto [node, other] : {std::pair{&peer, &own}, std::pair{&own, &peer}}) {
      PeerSettings settings;
      settings.public_key = other->table.local().public_key;
      settings.endpoint = place(0);
      require(node->table.set_peers({settings}, now, *node));
    }
    renew();
  }

  void renew() {
    now += kSecond;
    peer.sent.clear();
    own.sent.clear();
    require(peer.table.start_handshake(own.table.local().public_key, now, peer));
    const auto initiation = peer.sent.front().bytes;
    open(initiation, place(0));
    if (own.sent.empty()) return;
    const auto response = own.sent.back().bytes;
    if (response[0] != kResponseType) return;
    require(peer.table.handle_response(load<Response>(response.data()), place(0), now, peer) ==
            Outcome::accepted);
    open(peer.sent.back().bytes, place(0));
    own.sent.clear();
  }

  /// What a worker does. Returns whether a transport message was taken.
  bool open(std::vector<uint8_t> message, const Endpoint& from) {
    if (message[0] == kInitiationType) {
      own.table.handle_initiation(load<Initiation>(message.data()), from, now, own);
      return false;
    }
    Keypair* keypair = own.table.find(load<uint32_t>(&message[4]));
    if (keypair == nullptr || keypair->expired(now)) return false;
    crypto::AeadJob job{&keypair->receive_key, load<uint64_t>(&message[8]), &message[kTransportHeaderSize],
                        message.size() - kTransportOverhead, false};
    own.aead.open(std::span(&job, 1));
    require(job.ok);
    if (!keypair->accept(job.counter)) return false;
    Peer& known = keypair->peer;
    const Bytes text(job.text, job.size);
    if (is_path_frame(text)) {
      path_frame(*keypair, text, from);
      return true;
    }
    own.table.authenticated(*keypair, from, now, own);
    const PathSet* set = known.paths.load();
    const PathSet::Path* path = set == nullptr ? nullptr : SessionTable::heard_by_path(*set, from, now);
    if (set != nullptr && !text.empty()) SessionTable::data_by_path(known, *set, path, from, now, own);
    if (path != nullptr)
      own.table.received_by_path(known, *set, *path, 1, message.size(), !text.empty(), now, own.aead, own);
    return true;
  }

  void path_frame(Keypair& keypair, Bytes text, const Endpoint& from) {
    const Endpoint before = keypair.peer.endpoint();
    own.sent.clear();
    const PathFrameOutcome outcome = own.table.handle_path_frame(keypair, text, from, now, own.aead, own);
    require(keypair.peer.endpoint().same_path(before));
    require(own.sent.size() == (outcome == PathFrameOutcome::answered ? 1 : 0));
    if (!own.sent.empty()) {
      require(own.sent.back().to.same_path(from));
      require(own.sent.back().bytes.size() <= text.size() + kTransportOverhead);
    }
    const std::optional<PathFrame> frame = decode_path_frame(text);
    require(frame.has_value() || outcome == PathFrameOutcome::dropped);
    if (!frame.has_value()) return;
    const auto reads_as = [&](const auto& written) {
      require(std::equal(written.begin(), written.end(), text.begin(), text.begin() + written.size()));
    };
    if (frame->kind == ControlKind::path_report) {
      reads_as(encode_path_report(frame->received));
    } else if (frame->kind == ControlKind::probe_answer) {
      reads_as(encode_probe_answer(*frame, frame->observed, frame->size));
    } else {
      std::vector<uint8_t> again(text.size());
      write_probe(again, frame->token, frame->stamp);
      require(std::equal(again.begin(), again.begin() + kProbeSize, text.begin()));
    }
  }

  /// The peer seals whatever it is told to.
  void say(Bytes payload, const Endpoint& from) {
    Keypair* keypair = peer.peer().sending();
    if (keypair == nullptr || keypair->expired(now)) return;
    const CounterRange counter = keypair->take_counters(1, now);
    last.resize(kTransportOverhead + payload.size());
    uint8_t* text = last.data() + kTransportHeaderSize;
    store(last.data(), kTransportType);
    store(last.data() + 4, keypair->remote_index);
    store(last.data() + 8, counter.first);
    if (!payload.empty()) std::memcpy(text, payload.data(), payload.size());
    crypto::AeadJob job{&keypair->send_key, counter.first, text, payload.size(), false};
    peer.aead.seal(std::span(&job, 1));
    require(job.ok);
    open(last, from);
  }

  void check() {
    Peer& known = own.peer();
    const PathSet* set = known.paths.load();
    const PathSet::Path* active = set == nullptr ? nullptr : set->active();
    require(known.pinned() == (active != nullptr));
    if (active != nullptr) require(known.endpoint().same_path(active->ends));
    const uint64_t seconds = (now - 1000 * kSecond) / kSecond + 2;
    require(own.told[PathEvent::Kind::strange_probe] <= kPathEventsPerSecond * (seconds + appeared));
    require(own.told[PathEvent::Kind::arrival] <= kPathEventsPerSecond * (seconds + appeared));
    require(own.told[PathEvent::Kind::answered] <= kControlFramesPerSecond * (seconds + 2 * appeared));
    require(own.table.path_counts(peer.table.local().public_key).size() ==
            (set == nullptr ? 0 : set->paths().size()));
    own.table.qsbr().quiescent(0);
    own.sent.clear();
    peer.sent.clear();
  }
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const bool ready = sodium_init() >= 0;
  require(ready);
  Input input(data, size);
  World world;
  const Key32 key = world.peer.table.local().public_key;
  for (int i = 0; i < kMaxInstructions && !input.empty(); i++) {
    const uint8_t what = input.byte() % 8, argument = input.byte();
    switch (what) {
      case 0:  // anything at all
        world.say(input.bytes(argument), place(input.byte()));
        break;
      case 1: {  // a frame whose length is right
        std::vector<uint8_t> frame = input.bytes(argument);
        frame.resize(argument % 3 == 0 ? 16 : 48 + argument / 64 * 16);
        frame[0] = 0xC0;
        frame[1] = static_cast<uint8_t>(6 + argument % 3);
        store(&frame[2], static_cast<uint16_t>(frame.size() - 4));
        world.say(frame, place(input.byte()));
        break;
      }
      case 2:  // what was said last, again
        if (!world.last.empty()) require(!world.open(world.last, place(argument)));
        break;
      case 3: {
        PathSettings set{key,
                         argument % 16 != 0,
                         {},
                         (argument % 3) * 100 * kMillisecond,
                         (argument % 5) * 20 * kMillisecond};
        if (set.answers)
          for (uint8_t id = 1; id <= argument % 10; id++) set.paths.push_back({id, place(input.byte())});
        world.appeared += world.own.peer().paths.load() == nullptr && set.answers ? 1 : 0;
        world.own.table.set_paths({set}, world.now, world.own);
        break;
      }
      case 4:
        world.now += argument * kMillisecond + 1;
        world.own.table.handle_timers(world.now, world.own);
        break;
      case 5: {
        const std::vector<uint8_t> text = {0xC0, 1, argument, 0};
        world.own.table.send_inside(key, text, world.now, world.own);
        break;
      }
      case 6:
        world.own.table.send_probe({key, {}, place(argument), size_t{input.word()}}, world.now, world.own);
        break;
      case 7:
        world.renew();
        break;
    }
    world.check();
  }
  return 0;
}
