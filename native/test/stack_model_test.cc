// SPDX-License-Identifier: Apache-2.0
// Two stacks over a network that loses, delays, repeats, reorders and damages packets, in virtual time. What
// a model says: each byte arrives once and in its order, both ends learn that the other has finished, and no
// connection is stuck, whatever the network did.
//
//   stack_model_test                 a quarter of an hour of virtual time, the same seeds each time
//   stack_model_test HOURS [SEED]    as long as that, from another seed on
#include <cstdlib>
#include <cstring>

#include "check.h"
#include "common/ecn.h"
#include "stack_network.h"

namespace {

using namespace omerta;
using namespace omerta::check;
using namespace omerta::stack;
using omerta::test::Impairment;
using omerta::test::StackNetwork;

/// Silence after which a connection counts as stuck: longer than all timeouts, keepalives included.
constexpr Nanoseconds kStuck = 3 * 3600 * kSecond;

/// Byte `offset` of a stream.
uint8_t byte_at(uint64_t stream, uint64_t offset) {
  uint64_t x = stream * 0x9e3779b97f4a7c15ULL + (offset >> 3);
  x ^= x >> 31;
  x *= 0xbf58476d1ce4e5b9ULL;
  x ^= x >> 29;
  return static_cast<uint8_t>(x >> (8 * (offset & 7)));
}

/// One end of a connection as the model sees it.
struct Half {
  Connection* connection = nullptr;
  uint64_t stream = 0;  ///< number of what it sends
  uint64_t to_send = 0, sent = 0;
  uint64_t received = 0;
  bool opened = false, ended = false, closed = false, finished = false;
  bool reads = true;  ///< takes what comes
  bool writing = false;
  Ended why = Ended::finished;
};

struct Exchange {
  Half half[2];
  bool aborts = false;
};

class Model {
 public:
  Model(uint64_t seed, const Settings& settings)
      : users_{User(*this, 0), User(*this, 1)}, network(seed, settings, users_[0], users_[1]) {}

  /// Opens a connection, from either end, over which so much goes in each direction.
  void open(size_t from, uint64_t there, uint64_t back, bool v6, bool aborts) {
    Flow flow;
    flow.local = StackNetwork::address(from, v6);
    flow.remote = StackNetwork::address(1 - from, v6);
    flow.local_port = static_cast<uint16_t>(1024 + exchanges_.size() % 60'000);
    flow.remote_port = static_cast<uint16_t>(80 + from);
    auto exchange = std::make_unique<Exchange>();
    exchange->aborts = aborts;
    exchange->half[from] = {.stream = 2 * exchanges_.size(), .to_send = there};
    exchange->half[1 - from] = {.stream = 2 * exchanges_.size() + 1, .to_send = back};
    by_flow_[flow_key(flow)] = exchange.get();
    Connection* connection = network.stack(from).connect(flow, network.now);
    exchange->half[from].connection = connection;
    if (connection == nullptr) std::abort();
    connection->context = exchange.get();
    exchanges_.push_back(std::move(exchange));
  }

  bool all_over() const {
    for (const auto& exchange : exchanges_)
      for (const Half& half : exchange->half)
        if (half.connection != nullptr && !half.closed) return false;
    return true;
  }

  /// Says how connections are that are not over.
  void explain() {
    for (size_t end = 0; end < 2; end++)
      network.stack(end).for_each([&](Connection& c) {
        const Half& own = half(end, c);
        std::fprintf(stderr,
                     "  end %zu port %u: state %d, sent %llu of %llu, received %llu, waiting %zu, queued "
                     "%zu, in flight %u, reads %d\n",
                     end, c.flow().local_port, static_cast<int>(c.state()),
                     static_cast<unsigned long long>(own.sent), static_cast<unsigned long long>(own.to_send),
                     static_cast<unsigned long long>(own.received), c.waiting(), c.queued(),
                     c.send_side().sent().in_flight(), own.reads ? 1 : 0);
      });
  }

  /// What has to hold in the end.
  void check() {
    for (const auto& exchange : exchanges_) {
      const Half &a = exchange->half[0], &b = exchange->half[1];
      if (exchange->aborts || a.why != Ended::finished || b.why != Ended::finished || !a.opened ||
          !b.opened || !a.closed || !b.closed)
        continue;
      CHECK(a.received == b.to_send && b.received == a.to_send);
      CHECK(a.ended && b.ended);
      whole++;
    }
  }

  uint64_t bytes = 0;
  uint64_t whole = 0;
  bool wrong = false;
  Nanoseconds progress = 0;

 private:
  class User final : public Handler {
   public:
    User(Model& model, size_t end) : model_(model), end_(end) {}
    void asked(Connection& c) override { model_.asked(end_, c); }
    void opened(Connection& c) override { model_.opened(end_, c); }
    size_t data(Connection& c, const Scattered& bytes) override { return model_.data(end_, c, bytes); }
    void ended(Connection& c) override { model_.ended(end_, c); }
    void writable(Connection& c) override { model_.write(end_, c); }
    void closed(Connection& c, Ended why) override { model_.closed(end_, c, why); }

   private:
    Model& model_;
    size_t end_;
  };
  User users_[2];

 public:
  StackNetwork network;

 private:
  static std::string flow_key(const Flow& flow) {
    std::string key(reinterpret_cast<const char*>(flow.local.data()), 16);
    return key + std::to_string(flow.local_port) + ' ' + std::to_string(flow.remote_port);
  }
  Half& half(size_t end, Connection& c) { return static_cast<Exchange*>(c.context)->half[end]; }

  void asked(size_t end, Connection& c) {
    Flow other = c.flow();
    std::swap(other.local, other.remote);
    std::swap(other.local_port, other.remote_port);
    const auto found = by_flow_.find(flow_key(other));
    if (found == by_flow_.end()) std::abort();
    c.context = found->second;
    Half& own = half(end, c);
    if (own.opened) return c.refuse();  // a SYN that was long on its way
    own.connection = &c;
    own.closed = false;
    own.received = own.sent = 0;
    const Nanoseconds delay = network.below(3) == 0 ? network.below(200 * kMillisecond) : 0;
    later(end, c, delay, [this, end](Connection& connection) {
      network.stack(end).at(network.now);
      connection.accept();
    });
  }
  void opened(size_t end, Connection& c) {
    half(end, c).opened = true;
    write(end, c);
  }
  void write(size_t end, Connection& c) {
    Half& own = half(end, c);
    if (own.finished || !own.opened) return;
    while (own.sent < own.to_send) {
      const size_t most = network.below(8) == 0 ? 1 + network.below(200) : 1 + network.below(100'000);
      iovec parts[2];
      const size_t count = c.space(std::min<uint64_t>(most, own.to_send - own.sent), parts);
      if (count == 0) return;
      size_t size = 0;
      for (size_t i = 0; i < count; i++)
        for (size_t j = 0; j < parts[i].iov_len; j++)
          static_cast<uint8_t*>(parts[i].iov_base)[j] = byte_at(own.stream, own.sent + size++);
      own.sent += size;
      c.wrote(size);
      if (network.below(4) == 0) {
        // A pause, sometimes a long one.
        const Nanoseconds pause =
            network.below(50) == 0 ? network.below(300 * kSecond) : network.below(kSecond / 10);
        return later(end, c, pause, [this, end](Connection& connection) {
          network.stack(end).at(network.now);
          write(end, connection);
        });
      }
    }
    if (own.sent < own.to_send) return;
    Exchange& exchange = *static_cast<Exchange*>(c.context);
    own.finished = true;
    if (exchange.aborts && network.below(2) == 0) {
      own.closed = true;
      c.abort();
    } else {
      c.finish();
    }
  }
  size_t data(size_t end, Connection& c, const Scattered& bytes_here) {
    Half& own = half(end, c);
    if (!own.reads) return 0;
    size_t taken = bytes_here.size();
    if (network.below(50) == 0) {
      // Reads a part, and the rest later.
      taken = network.below(taken + 1);
      own.reads = false;
      const Nanoseconds pause =
          network.below(20) == 0 ? network.below(60 * kSecond) : network.below(kSecond / 5);
      later(end, c, pause, [this, end](Connection& connection) {
        half(end, connection).reads = true;
        network.stack(end).at(network.now);
        connection.resume();
      });
    }
    const uint64_t stream = static_cast<Exchange*>(c.context)->half[1 - end].stream;
    size_t at = 0;
    bytes_here.for_each([&](const uint8_t* data, size_t size) {
      for (size_t i = 0; i < size && at < taken; i++, at++)
        if (data[i] != byte_at(stream, own.received + at)) wrong = true;
    });
    own.received += taken;
    bytes += taken;
    if (taken != 0) progress = network.now;
    return taken;
  }
  void ended(size_t end, Connection& c) {
    Half& own = half(end, c);
    if (own.ended || own.received != static_cast<Exchange*>(c.context)->half[1 - end].to_send) wrong = true;
    own.ended = true;
    progress = network.now;
  }
  void closed(size_t end, Connection& c, Ended why) {
    Half& own = half(end, c);
    if (own.closed) wrong = true;
    own.closed = true;
    own.why = why;
    progress = network.now;
  }
  /// Later, if the connection is still there then.
  void later(size_t end, Connection& c, Nanoseconds delay, std::function<void(Connection&)> what) {
    network.at(network.now + delay, [this, end, flow = c.flow(), context = c.context, what] {
      Connection* connection = network.stack(end).find(flow);
      if (connection != nullptr && connection->context == context) what(*connection);
    });
  }

  std::map<std::string, Exchange*> by_flow_;
  std::vector<std::unique_ptr<Exchange>> exchanges_;
};

Impairment any_impairment(StackNetwork& network) {
  Impairment how;
  const auto rarely = [&](double most) { return network.below(2) == 0 ? 0 : network.chance() * most; };
  how.loss = network.below(6) == 0 ? network.chance() * 0.3 : rarely(0.05);
  how.duplication = rarely(0.1);
  how.reordering = rarely(0.5);
  how.corruption = rarely(0.02);
  how.marking = rarely(0.05);
  how.delay = network.below(5) == 0 ? network.below(kSecond / 2) : network.below(50 * kMillisecond);
  how.jitter = network.below(4) == 0 ? network.below(kSecond / 5) : network.below(20 * kMillisecond);
  if (network.below(2) == 0) {
    how.bytes_per_second = 10'000 + network.below(network.below(2) == 0 ? 200'000 : 50'000'000);
    how.queue = 3000 + network.below(300'000);
  }
  return how;
}

Settings any_settings(std::mt19937_64& random) {
  Settings settings;
  settings.mtu = 576 + random() % 9000;
  if (random() % 2 == 0) settings.mtu = 1400;
  settings.mtu = std::max<size_t>(settings.mtu, 1280);
  settings.super_packets = random() % 4 != 0;
  settings.ecn = random() % 2 == 0;
  settings.receive_window = static_cast<uint32_t>(random() % 3 == 0 ? 4096 + random() % 60'000 : 4U << 20);
  settings.send_buffer = random() % 3 == 0 ? 4096 + random() % 100'000 : size_t{4} << 20;
  // Sometimes there is not memory enough for all.
  if (random() % 5 == 0) settings.memory = settings.owner_memory = 200'000 + random() % 1'000'000;
  settings.owner_connections = 64;
  return settings;
}

struct Total {
  uint64_t bytes = 0, whole = 0, packets = 0, lost = 0;
  Nanoseconds time = 0;
  bool ok = true;
};

void run(uint64_t seed, Total& total) {
  std::mt19937_64 random(seed);
  const Settings settings = any_settings(random);
  Model model(seed, settings);
  StackNetwork& network = model.network;
  network.coalesce = random() % 2 == 0;
  for (const uint8_t kind : {uint8_t{3}, uint8_t{4}, uint8_t{8}})
    if (random() % 5 == 0) network.stripped.push_back(kind);
  for (Impairment& how : network.impairment) how = any_impairment(network);
  const Nanoseconds begin = network.now;
  model.progress = begin;
  const size_t count = 1 + random() % 12;
  for (size_t i = 0; i < count; i++) {
    const auto amount = [&]() -> uint64_t {
      const uint64_t kind = random() % 10;
      return kind == 0  ? 0
             : kind < 5 ? random() % 3000
             : kind < 9 ? random() % 200'000
                        : random() % 2'000'000;
    };
    const uint64_t there = amount(), back = amount();
    network.at(begin + random() % (20 * kSecond),
               [&model, from = random() % 2, there, back, v6 = random() % 3 == 0,
                aborts = random() % 10 == 0] { model.open(from, there, back, v6, aborts); });
  }
  // The network breaks for a while, and becomes another one.
  if (random() % 3 == 0)
    network.at(begin + random() % (10 * kSecond), [&network, until = random() % (60 * kSecond)] {
      for (Impairment& how : network.impairment) how.loss = 1;
      network.at(network.now + until, [&network] {
        for (Impairment& how : network.impairment) how = any_impairment(network);
      });
    });
  bool stuck = false;
  while (network.step() && !stuck) stuck = network.now - model.progress > kStuck && !model.all_over();
  model.check();
  const bool over = model.all_over(), empty = network.stack(0).memory() + network.stack(1).memory() == 0;
  const bool none = network.stack(0).connections() + network.stack(1).connections() == 0;
  CHECK(!stuck);
  CHECK(over);
  CHECK(empty);
  CHECK(none);
  CHECK(!model.wrong);
  total.ok = !stuck && over && empty && none && !model.wrong;
  if (!total.ok) {
    std::fprintf(stderr, "seed %llu\n", static_cast<unsigned long long>(seed));
    model.explain();
  }
  total.bytes += model.bytes;
  total.whole += model.whole;
  total.packets += network.packets;
  total.lost += network.lost;
  total.time += network.now - begin;
}

}  // namespace

int main(int count, char** words) {
  TEST("random traffic over a random network");
  const double hours = count > 1 ? std::atof(words[1]) : 0;
  uint64_t seed = count > 2 ? std::strtoull(words[2], nullptr, 10) : 1;
  Total total;
  for (uint64_t runs = 0;
       total.ok && (hours == 0 ? runs < 60 : static_cast<double>(total.time) < hours * 3600e9); runs++)
    run(seed++, total);
  CHECK(total.whole > 0);
  std::printf("%.2f hours of virtual time, %llu connections whole, %.1f MB, %llu packets, %llu lost\n",
              static_cast<double>(total.time) / 3600e9, static_cast<unsigned long long>(total.whole),
              static_cast<double>(total.bytes) / 1e6, static_cast<unsigned long long>(total.packets),
              static_cast<unsigned long long>(total.lost));
  return finish();
}
