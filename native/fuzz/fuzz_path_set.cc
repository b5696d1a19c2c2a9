// SPDX-License-Identifier: Apache-2.0
// The ways to a peer that may send anything inside its session: path frames well-formed and not, from
// everywhere and again, while sets are replaced, legs lead elsewhere, keys are renewed and time passes. The
// input is a program: an instruction, an argument, and what it takes.
//
// What has to hold after every instruction:
//   - what was sent and received by each path, what was told and what was reported is what the model says
//     (path_model.h), to the byte and to the moment
//   - a path frame moves nothing, is never answered by more bytes than it has, and only where it came from
//   - a peer with paths is reached by the active one and, while that is silent, by the standby, and nowhere
//   else;
//     one that loses them is reached where it was before
//   - what is read of a frame is what writing it again gives
//   - whoever waits for the table is woken when the first of its timers is due
#include <sodium.h>

#include <deque>
#include <functional>

#include "fuzz_input.h"
#include "path_model.h"
#include "session/session_table.h"
#include "session/transport_message.h"

using namespace omerta;
using namespace omerta::session;
using omerta::fuzz::Input;
using omerta::fuzz::PathModel;
using omerta::fuzz::require;
using omerta::fuzz::Told;

namespace {

constexpr int kMaxInstructions = 500;

/// 16 places: four of them by two legs, the others at four addresses, from three of this node's.
Endpoint place(uint8_t number) {
  Endpoint e;
  e.remote.ip[10] = e.remote.ip[11] = 0xff;
  e.remote.ip[12] = 10;
  e.remote.ip[15] = static_cast<uint8_t>(number % 4);
  e.remote.port = 1;
  e.local.ip[15] = number / 4 % 3;
  if (number % 16 >= 12) {
    e.receive_leg = 5 + number % 2;
    e.send_leg = 8;
  }
  return e;
}

using Message = std::vector<uint8_t>;

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
            {.random =
                 [this](std::span<uint8_t> out) {
                   for (uint8_t& byte : out)
                     byte = static_cast<uint8_t>((random = random * 6364136223846793005u + 1) >> 33);
                 },
             .timestamp =
                 [this] {
                   Timestamp stamp{};
                   store(stamp.data() + 4, __builtin_bswap64(++stamps));
                   return stamp;
                 },
             .wake_at = [this](Nanoseconds at) { wake_at = at; }}) {
    table.qsbr().quiescent(0);
  }
  void send(const Endpoint& to, Bytes message, uint8_t) override {
    sent.push_back({to, {message.begin(), message.end()}});
    on_sent(sent.back());
  }
  void send_unfragmented(const Endpoint& to, Bytes message) override {
    sent.push_back({to, {message.begin(), message.end()}, true});
    on_sent(sent.back());
  }
  void session_established(Peer& peer, const Endpoint& at) override {
    if (!peer.pinned()) require(at.same_path(peer.endpoint()));
  }
  void endpoint_changed(Peer& peer) override { require(!peer.pinned()); }
  void path_needed(Peer& peer) override { require(!peer.endpoint().known()); }
  void session_lost(Peer&) override {}
  void suite_step(SuiteStep) override { std::abort(); }
  void path_event(Peer&, const PathEvent& event) override { told.push_back(event); }
  void path_duplicate() override { duplicates++; }

  Peer& peer() {
    Peer* found = nullptr;
    table.for_each([&](Peer& one) { found = &one; });
    return *found;
  }

  struct Sent {
    Endpoint to;
    Message bytes;
    bool unfragmented = false;
  };
  uint64_t random = 1;
  uint64_t stamps = 0;
  std::deque<Sent> sent;
  std::function<void(const Sent&)> on_sent = [](const Sent&) {};
  std::vector<PathEvent> told;
  size_t duplicates = 0;
  Nanoseconds wake_at = kNever;
  crypto::Aead aead{crypto::AeadChoice{}};
  SessionTable table;
};

/// What a session carries; nullopt: nothing that opens. `job` opens in the message.
std::optional<Bytes> opened(Node& node, Keypair& keypair, Message& message) {
  crypto::AeadJob job{&keypair.receive_key, load<uint64_t>(&message[8]), &message[kTransportHeaderSize],
                      message.size() - kTransportOverhead, false};
  node.aead.open(std::span(&job, 1));
  if (!job.ok) return std::nullopt;
  return Bytes(job.text, job.size);
}

struct World {
  Node peer{1};  ///< may send anything
  Node own{2};   ///< what is tested
  const Key32 key = peer.table.local().public_key;
  PathModel model;
  Nanoseconds now = 1000 * kSecond;
  Message last;
  Endpoint without_paths;  ///< where the peer is reached again when it has lost its paths

  // Of one instruction:
  size_t duplicates = 0;
  std::vector<PathFrame> answers;
  std::vector<PathModel::Report> reports;

  World() {
    own.on_sent = [this](const Node::Sent& sent) { was_sent(sent); };
    add(own, peer);
    add(peer, own);
    renew();
  }

  void add(Node& node, const Node& other) {
    PeerSettings settings;
    settings.public_key = other.table.local().public_key;
    settings.endpoint = place(0);
    require(node.table.set_peers({settings}, now, node));
  }

  /// Opened as the peer would, and put down in the model.
  void was_sent(const Node::Sent& sent) {
    const PathModel::Path* active = model.pinned() ? &model.paths()[0] : nullptr;
    const bool again = own.sent.size() > 1 && own.sent[own.sent.size() - 2].bytes == sent.bytes;
    if (again) {
      duplicates++;
      require(model.duplicates_by() != nullptr && sent.to.same_path(model.duplicates_by()->given.ends));
    }
    if (sent.bytes[0] != kTransportType) return;
    Keypair* keypair = peer.table.find(load<uint32_t>(&sent.bytes[4]));
    require(keypair != nullptr);
    Message copy = sent.bytes;
    const std::optional<Bytes> text = opened(peer, *keypair, copy);
    require(text.has_value());
    const bool control = is_control_frame(*text, ControlKind::message, ControlKind::pong);
    model.sent(sent.to, sent.bytes.size(), again, control);
    if (again) return require(!control || model.control() != &model.paths()[1]);
    if (control && model.control() != nullptr) active = model.control();
    const std::optional<PathFrame> frame = decode_path_frame(*text);
    require(frame.has_value() == is_path_frame(*text));
    if (!frame.has_value()) {
      // A keepalive may also confirm a session by the way its response came.
      if (active != nullptr && !text->empty()) require(sent.to.same_path(active->given.ends));
      if (!text->empty()) model.data_sent(now, control);
    } else if (frame->kind == ControlKind::probe_answer) {
      answers.push_back(*frame);
    } else if (frame->kind == ControlKind::path_report) {
      reports.push_back({sent.to, frame->received});
    }
  }

  /// A session by the peer's initiation.
  void renew() {
    now += kSecond;
    peer.sent.clear();
    require(peer.table.start_handshake(own.table.local().public_key, now, peer));
    const size_t before = own.sent.size();
    own.table.handle_initiation(load<Initiation>(peer.sent.back().bytes.data()), place(0), now, own);
    if (own.sent.size() == before || own.sent.back().bytes[0] != kResponseType) return;
    require(peer.table.handle_response(load<Response>(own.sent.back().bytes.data()), place(0), now, peer) ==
            Outcome::accepted);
    open(peer.sent.back().bytes, place(0));
  }

  /// A session by this node's, whose response comes from there.
  void renew_itself(const Endpoint& from) {
    now += kSecond;
    require(own.table.start_handshake(key, now, own));
    const Message initiation = own.sent.empty() ? Message{} : own.sent.front().bytes;
    if (initiation.empty() || initiation[0] != kInitiationType) return;
    peer.sent.clear();
    peer.table.handle_initiation(load<Initiation>(initiation.data()), place(0), now, peer);
    if (peer.sent.empty() || peer.sent.back().bytes[0] != kResponseType) return;
    require(own.table.handle_response(load<Response>(peer.sent.back().bytes.data()), from, now, own) ==
            Outcome::accepted);
    Message confirmation = own.sent.back().bytes;
    require(confirmation[0] == kTransportType);
    Keypair* keypair = peer.table.find(load<uint32_t>(&confirmation[4]));
    require(keypair != nullptr && opened(peer, *keypair, confirmation).has_value());
    peer.table.authenticated(*keypair, place(0), now, peer);
  }

  /// What a worker does. Returns whether a transport message was taken.
  bool open(Message message, const Endpoint& from) {
    Keypair* keypair = own.table.find(load<uint32_t>(&message[4]));
    if (keypair == nullptr || keypair->expired(now)) return false;
    const std::optional<Bytes> text = opened(own, *keypair, message);
    require(text.has_value());
    if (!keypair->accept(load<uint64_t>(&message[8]))) return false;
    if (is_path_frame(*text)) {
      path_frame(*keypair, *text, from);
      return true;
    }
    Peer& known = keypair->peer;
    own.table.authenticated(*keypair, from, now, own);
    model.received(from, message.size(), !text->empty(), now);
    const PathSet* set = known.paths.load();
    const PathSet::Path* path = set == nullptr ? nullptr : SessionTable::heard_by_path(*set, from, now);
    if (set != nullptr && !text->empty()) SessionTable::data_by_path(known, *set, path, from, now, own);
    if (path != nullptr)
      own.table.received_by_path(known, *set, *path, 1, message.size(), !text->empty(), now, own.aead, own);
    return true;
  }

  void path_frame(Keypair& keypair, Bytes text, const Endpoint& from) {
    const Endpoint before = keypair.peer.endpoint();
    const std::optional<PathFrame> frame = decode_path_frame(text);
    const PathFrameOutcome expected =
        model.received_frame(frame, from, text.size() + kTransportOverhead, now);
    const PathFrameOutcome outcome = own.table.handle_path_frame(keypair, text, from, now, own.aead, own);
    require(outcome == expected);
    require(keypair.peer.endpoint().same_path(before));
    require(answers.size() == (outcome == PathFrameOutcome::answered ? 1 : 0));
    if (!answers.empty()) answered(*frame, text.size(), from);
    if (!frame.has_value()) return;
    const auto reads_as = [&](const auto& written) {
      require(std::equal(written.begin(), written.end(), text.begin(), text.begin() + written.size()));
    };
    if (frame->kind == ControlKind::path_report) {
      reads_as(encode_path_report(frame->received));
    } else if (frame->kind == ControlKind::probe_answer) {
      reads_as(encode_probe_answer(*frame, frame->observed, frame->size));
    } else {
      Message again(text.size());
      write_probe(again, frame->token, frame->stamp);
      require(std::equal(again.begin(), again.begin() + kProbeSize, text.begin()));
    }
    if (own.told.empty() || frame->kind == ControlKind::probe) return;
    const PathEvent& event = own.told.back();
    if (event.kind == PathEvent::Kind::answered)
      require(event.ends.same_path(from) && event.frame.token == frame->token &&
              event.rtt == static_cast<int64_t>(now - frame->stamp));
    if (event.kind == PathEvent::Kind::report) require(event.frame.received == frame->received);
  }

  /// Says how the probe arrived, where it came from.
  void answered(const PathFrame& probe, size_t size, const Endpoint& from) {
    const Node::Sent& sent = own.sent.back();
    require(sent.to.same_path(from) && sent.bytes.size() <= size + kTransportOverhead);
    const PathFrame& answer = answers.front();
    require(answer.token == probe.token && answer.stamp == probe.stamp);
    require(answer.size == static_cast<uint16_t>(size + kTransportOverhead + framing_of(from)));
    const omerta_address observed = from.relayed() ? omerta_address{} : from.remote;
    require(answer.observed.port == observed.port &&
            std::memcmp(answer.observed.ip, observed.ip, sizeof observed.ip) == 0);
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

  void set_paths(PathSettings settings) {
    Peer& known = own.peer();
    const bool was_pinned = model.pinned();
    const Endpoint roamed = known.given_endpoint.value_or(known.endpoint());
    const Endpoint left = known.endpoint();
    model.replace(settings);
    own.table.set_paths({settings, {.peer = own.table.local().public_key}}, now, own);
    if (model.pinned() && !was_pinned) without_paths = roamed;
    if (!model.pinned() && was_pinned)
      require(known.endpoint().same_path(without_paths.known() ? without_paths : left));
  }

  /// Legs lead elsewhere, or nowhere any more.
  void lead(uint32_t leg, const std::optional<Endpoint>& to) {
    if (without_paths.receive_leg == leg && model.pinned()) without_paths = to.value_or(Endpoint{});
    model.lead({{leg, to}});
    own.table.change_ways_back({{leg, to}}, now, own);
  }

  void probe(const Endpoint& to, size_t size) {
    const Keypair* usable = own.peer().sending();
    const bool can = usable != nullptr && !usable->expired(now);
    require(own.table.send_probe({key, {}, to, size}, now, own) == can);
    require(!own.table.send_probe({own.table.local().public_key, {}, to, size}, now, own));
    if (!can) return require(own.sent.empty());
    require(own.sent.size() == 1 && own.sent[0].to.same_path(to));
    require(own.sent[0].unfragmented == (size != 0));
    const size_t datagram = own.sent[0].bytes.size() + framing_of(to);
    const size_t least = kProbeSize + kTransportOverhead + framing_of(to);
    const size_t most = kMaxProbeSize + kTransportOverhead + framing_of(to);
    require(datagram == std::clamp(size, least, most));
  }

  /// A worker that sleeps until it is woken, and one that looks ten times a second.
  void pass(Nanoseconds time) {
    // The table looks at what is due already a nanosecond later.
    const Nanoseconds until = now + std::max<Nanoseconds>(time, 1);
    while (own.wake_at <= until) {
      now = std::max(now, own.wake_at);
      model.look(now);
      own.table.handle_path_timers(now, own);
      check();
    }
    now = until;
    own.table.handle_timers(now, own);
    model.look(now);
  }

  /// Data goes by the path that is furthest behind its share.
  void split(size_t bytes) {
    const PathSet* set = own.peer().paths.load();
    require((set != nullptr && set->splits()) == model.splits());
    if (!model.splits()) return;
    require(set->split(bytes).id == model.split(bytes));
    for (size_t i = 0; i < model.paths().size(); i++)
      require(set->paths()[i].use->split.load() == model.paths()[i].split);
  }

  void suspend() {
    own.table.suspend();
    require(own.wake_at == kNever);
    require(!own.table.send_probe({key, {}, place(1), 0}, now, own));
    own.table.resume(now);
    require(own.peer().sending() == nullptr);
  }

  void check() {
    Peer& known = own.peer();
    const PathSet* set = known.paths.load();
    require((set != nullptr) == model.there());
    require(known.pinned() == model.pinned());
    if (model.pinned()) {
      require(known.endpoint().same_path(model.paths()[0].given.ends));
      require(set->inner_limit() == model.inner_limit());
    }
    const std::vector<PathCounts> counts = own.table.path_counts(key);
    require(counts.size() == model.paths().size());
    for (size_t i = 0; i < counts.size(); i++) {
      const PathModel::Path& expected = model.paths()[i];
      require(counts[i].id == expected.given.id && counts[i].last_received == expected.last_received);
      require(counts[i].sent_packets == expected.sent_packets && counts[i].sent_bytes == expected.sent_bytes);
      require(counts[i].received_packets == expected.received_packets &&
              counts[i].received_bytes == expected.received_bytes);
    }
    require(own.told.size() == model.told.size());
    for (size_t i = 0; i < own.told.size(); i++)
      require(Told(own.told[i].kind, own.told[i].path) == model.told[i]);
    // Without a session a report is not made up for.
    const Keypair* usable = known.sending();
    require(reports.size() == (usable == nullptr || usable->expired(now) ? 0 : model.reports.size()));
    for (size_t i = 0; i < reports.size(); i++)
      require(reports[i].to.same_path(model.reports[i].to) &&
              reports[i].received == model.reports[i].received);
    require(own.duplicates == duplicates);
    if (model.due() != kNever) require(own.wake_at <= std::max(model.due(), now + 1));
    own.table.qsbr().quiescent(0);
    own.table.reclaim();
    own.sent.clear();
    own.told.clear();
    own.duplicates = duplicates = 0;
    model.told.clear();
    model.reports.clear();
    answers.clear();
    reports.clear();
    peer.sent.clear();
  }
};

/// A set of up to nine paths whose ids begin anywhere, so that another one may be active than before.
PathSettings settings_from(const Key32& key, uint8_t argument, Input& input) {
  PathSettings set{.peer = key,
                   .answers = argument % 16 != 0,
                   .timing = {.silent_after = (argument % 3) * 100 * kMillisecond,
                              .least_round_trip = (argument / 8 % 4) * 40 * kMillisecond,
                              .silent_between_reports = (argument / 32 % 3) * 50 * kMillisecond,
                              .report_every = (argument % 5) * 20 * kMillisecond}};
  if (!set.answers) return set;
  const uint8_t first = argument / 64;
  if (argument % 11 == 3) set.control = static_cast<uint8_t>(1 + (first + 1) % 10);
  for (uint8_t i = 0; i < argument % 10; i++) {
    const uint8_t where = input.byte();
    const size_t plpmtu = where / 16 == 0 ? 0 : size_t{where} / 16 * 100;
    set.paths.push_back({static_cast<uint8_t>(1 + (first + i) % 10), place(where), plpmtu,
                         argument % 7 == 0 ? where % 3u : 0});
  }
  for (uint8_t i = 0; i < (argument % 9 == 4 ? 2 : 0); i++) {
    const uint8_t which = input.byte();
    ProbeRule& rule = set.probe_rules.emplace_back();
    rule.local[15] = which / 4 % 3;
    rule.answered = which % 2 != 0;
    const uint8_t from[16] = {10, 0, 0, static_cast<uint8_t>(which / 16 % 4)};
    if (which >= 64) rule.from = *Prefix::make(which / 2 % 2 == 0 ? 4 : 6, from, which >= 128 ? 32 : 31);
  }
  return set;
}

/// A frame as engines send it.
Message frame_from(uint8_t argument, Nanoseconds now, Input& input) {
  ProbeToken token{};
  token[0] = argument;
  if (argument % 3 == 0) {
    Message frame(kProbeSize + argument / 64 * 16);
    write_probe(frame, token, argument);
    return frame;
  }
  const PathFrame probe{.kind = ControlKind::probe, .token = token, .stamp = now - argument};
  if (argument % 3 == 1) {
    const ProbeFrame frame = encode_probe_answer(probe, place(argument / 4).remote, input.word());
    return {frame.begin(), frame.end()};
  }
  const ReportFrame frame = encode_path_report(argument);
  return {frame.begin(), frame.end()};
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const bool ready = sodium_init() >= 0;
  require(ready);
  Input input(data, size);
  World world;
  world.check();
  for (int i = 0; i < kMaxInstructions && !input.empty(); i++) {
    const uint8_t what = input.byte() % 16, argument = input.byte();
    switch (what) {
      case 0:  // anything at all
        world.say(input.bytes(argument), place(input.byte()));
        break;
      case 1: {  // a frame whose length is right
        Message frame = input.bytes(argument);
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
      case 3:
        world.set_paths(settings_from(world.key, argument, input));
        break;
      case 4:
        world.pass(argument * kMillisecond);
        break;
      case 5:
        world.own.table.send_inside(world.key, Message{0xC0, 1, argument, 0}, world.now, world.own);
        world.split(size_t{argument} * 16);
        break;
      case 6:
        world.probe(place(argument), size_t{input.word()});
        break;
      case 7:
        world.renew();
        break;
      case 8: {
        const Message frame = frame_from(argument, world.now, input);
        world.say(frame, place(input.byte()));
        break;
      }
      case 9:  // data, or a keepalive
        world.say(Message(argument % 4 * 16, 0x45), place(argument / 4));
        break;
      case 10: {
        std::optional<Endpoint> to;
        if (argument % 4 != 0) {
          to = place(argument / 4 | 12);
          to->receive_leg = 5 + argument % 2;
        }
        world.lead(5 + argument % 2, to);
        break;
      }
      case 11:
        world.renew_itself(place(argument));
        break;
      case 12: {
        PeerSettings settings;
        settings.public_key = world.key;
        settings.endpoint = place(argument);
        settings.redirect = argument >= 128;
        if (world.model.pinned()) world.without_paths = place(argument);
        require(world.own.table.set_peers({settings}, world.now, world.own));
        break;
      }
      case 13:  // seconds
        world.pass((argument + 1) * kSecond);
        break;
      case 14:
        world.suspend();
        break;
      case 15:
        world.own.table.remove_peers({world.key});
        world.model.forget();
        require(world.own.wake_at == kNever);
        world.add(world.own, world.peer);
        break;
    }
    world.check();
  }
  return 0;
}
