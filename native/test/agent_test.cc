// SPDX-License-Identifier: Apache-2.0
// Commands of a guest's agent, with a socket pair in place of the port of a machine.
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstring>
#include <memory>
#include <string>

#include "agent/command_channel.h"
#include "check.h"

namespace {

using namespace omerta::agent;
using namespace omerta::check;

constexpr int kPatienceMs = 20'000;
std::vector<uint8_t> seeded;

/// The host's end, and the agent at the other, advanced by turns.
struct World {
  World() {
    int ends[2];
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) == 0);
    host = ends[0];
    agent_end = ends[1];
    channel = std::make_unique<CommandChannel>(
        agent_end, [](std::span<const uint8_t> bytes) { seeded.assign(bytes.begin(), bytes.end()); });
  }
  ~World() {
    channel.reset();
    if (host >= 0) close(host);
    close(agent_end);
  }

  void send(Kind kind, std::string_view payload = {}) {
    append_frame(to_agent, kind, {reinterpret_cast<const uint8_t*>(payload.data()), payload.size()});
  }

  void start(std::initializer_list<std::string> words) {
    std::string payload{static_cast<char>(words.size()), 0};
    for (const auto& each : words) payload += each + '\0';
    payload += "PATH=/usr/bin:/bin";
    payload += '\0';
    send(Kind::start, payload);
  }

  /// One turn of everything; what the agent says is kept by its kind.
  void turn() {
    channel->advance();
    int status = 0;
    for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;) channel->ended(pid, status);
    channel->advance();
    if (const ssize_t put = write(host, to_agent.data(), to_agent.size()); put > 0)
      to_agent.erase(to_agent.begin(), to_agent.begin() + put);
    if (!reads) return;
    const auto space = reader.space();
    const ssize_t got = read(host, space.data(), space.size());
    if (got <= 0) return;
    reader.filled(static_cast<size_t>(got));
    Frame frame{};
    while (reader.next(frame) == FrameReader::Next::frame) {
      const std::string payload(frame.payload.begin(), frame.payload.end());
      if (frame.kind == Kind::output) output += payload;
      if (frame.kind == Kind::errors) errors += payload;
      if (frame.kind == Kind::taken) {
        uint32_t bytes = 0;
        std::memcpy(&bytes, payload.data(), sizeof bytes);
        taken += bytes;
      }
      if (frame.kind == Kind::exited) exited.push_back(static_cast<uint8_t>(payload[0]));
      if (frame.kind == Kind::failed) failed.push_back(payload);
      if (frame.kind == Kind::ready) greetings++;
    }
  }

  template <typename Condition>
  bool until(Condition condition) {
    for (int waited = 0; waited < kPatienceMs; ++waited) {
      turn();
      if (condition()) return true;
      if (waited % 8 == 7) usleep(1000);
    }
    return false;
  }

  bool until_exited(size_t count = 1) {
    return until([&] { return exited.size() + failed.size() == count; });
  }

  int host = -1, agent_end = -1;
  std::unique_ptr<CommandChannel> channel;
  FrameReader reader;
  std::vector<uint8_t> to_agent;
  std::string output, errors;
  std::vector<int> exited;
  std::vector<std::string> failed;
  size_t taken = 0;
  int greetings = 0;
  bool reads = true;
};

void a_command_has_its_output_errors_and_status_told() {
  World world;
  world.start({"sh", "-c", "printf out; printf err >&2; exit 7"});
  world.send(Kind::input_end);
  CHECK(world.until_exited());
  CHECK(world.output == "out");
  CHECK(world.errors == "err");
  CHECK(world.exited == std::vector<int>{7});
  CHECK(world.greetings == 1);
}

void every_byte_of_input_comes_back_from_cat() {
  World world;
  std::string sent(kGranted * 3, 0);
  for (size_t i = 0; i < sent.size(); ++i) sent[i] = static_cast<char>(i * 2654435761u >> 13);
  world.start({"cat"});
  size_t at = 0;
  CHECK(world.until([&] {
    while (at < sent.size() && at - world.taken + kMaxPayload <= kGranted) {
      world.send(Kind::input, std::string_view(sent).substr(at, kMaxPayload));
      at += kMaxPayload;
    }
    return at >= sent.size();
  }));
  world.send(Kind::input_end);
  CHECK(world.until_exited());
  CHECK(world.output == sent);
  CHECK(world.taken == sent.size());
}

void one_command_runs_after_the_other() {
  World world;
  world.start({"sh", "-c", "exit 1"});
  CHECK(world.until_exited(1));
  world.send(Kind::input, "it was on its way");
  world.send(Kind::input_end);
  world.start({"/nonexistent/program"});
  CHECK(world.until_exited(2));
  CHECK(world.failed.size() == 1 && world.failed[0][0] == 127);
  world.start({"/"});
  CHECK(world.until_exited(3));
  CHECK(world.failed.size() == 2 && world.failed[1][0] == 126);
  world.start({"cat"});
  world.send(Kind::input, "more");
  world.send(Kind::input_end);
  CHECK(world.until_exited(4));
  CHECK(world.output == "more");
  CHECK(!world.channel->is_over());
}

void a_signal_reaches_what_the_command_started() {
  World world;
  world.start({"sh", "-c", "trap '' TERM; sleep 1000 & echo started; wait"});
  CHECK(world.until([&] { return world.output == "started\n"; }));
  const char kill9 = SIGKILL;
  world.send(Kind::signal, {&kill9, 1});
  CHECK(world.until_exited());
  CHECK(world.exited == std::vector<int>{128 + SIGKILL});
}

void what_a_command_leaves_running_is_not_waited_for() {
  World world;
  // It ends by itself: its pipe is closed with the command.
  world.start({"sh", "-c", "yes & exit 3"});
  CHECK(world.until_exited());
  CHECK(world.exited == std::vector<int>{3});
}

void a_command_whose_reader_waits_waits_too() {
  const std::string mark = "/tmp/agent_test." + std::to_string(getpid());
  World world;
  world.reads = false;
  world.start({"sh", "-c", "yes | head -c 20000000; touch " + mark});
  for (int turns = 0; turns < 500; ++turns) {
    world.turn();
    usleep(200);
  }
  CHECK(access(mark.c_str(), F_OK) != 0);
  world.reads = true;
  CHECK(world.until_exited());
  CHECK(world.output.size() == 20'000'000);
  CHECK(unlink(mark.c_str()) == 0);
}

void input_a_command_does_not_read_is_taken_all_the_same() {
  World world;
  world.start({"sh", "-c", "exec <&-; sleep 0.2; echo closed"});
  world.send(Kind::input, std::string(kMaxPayload, 'x'));
  world.send(Kind::input, std::string(kMaxPayload, 'x'));
  CHECK(world.until_exited());
  CHECK(world.output == "closed\n");
}

void a_host_that_says_what_no_host_says_is_left() {
  const std::string one_too_many(kMaxPayload, 'x');
  World more_than_granted;
  more_than_granted.start({"sleep", "1000"});
  for (size_t sent = 0; sent <= kGranted + 65'536; sent += one_too_many.size())
    more_than_granted.send(Kind::input, one_too_many);
  CHECK(more_than_granted.until([&] { return more_than_granted.channel->is_over(); }));

  World second;
  second.start({"sleep", "1000"});
  second.start({"sleep", "1000"});
  CHECK(second.until([&] { return second.channel->is_over(); }));

  for (const auto& payload : {std::string(), std::string("\1"), std::string("\0\0", 2),
                              std::string("\1\0sh", 4), std::string("\2\0sh\0", 5)}) {
    World malformed;
    malformed.send(Kind::start, payload);
    CHECK(malformed.until([&] { return malformed.channel->is_over(); }));
  }

  World unknown;
  unknown.send(Kind::ready);
  CHECK(unknown.until([&] { return unknown.channel->is_over(); }));

  World too_long;
  const uint8_t header[] = {2, 1, 0, 1};
  too_long.to_agent.assign(header, header + sizeof header);
  CHECK(too_long.until([&] { return too_long.channel->is_over(); }));
}

void a_host_that_is_gone_takes_its_command_along() {
  World world;
  world.start({"sh", "-c", "echo $$; exec sleep 1000"});
  CHECK(world.until([&] { return !world.output.empty() && world.output.back() == '\n'; }));
  const pid_t command = static_cast<pid_t>(std::stol(world.output));
  CHECK(kill(command, 0) == 0);
  close(world.host);
  world.host = -1;
  world.channel->advance();
  CHECK(world.channel->is_over());
  world.channel.reset();
  int status = 0;
  CHECK(waitpid(command, &status, 0) == command && WIFSIGNALED(status));
}

void randomness_of_the_host_is_handed_on_whole() {
  World world;
  world.send(Kind::seed, "short");
  world.send(Kind::seed, std::string(kSeed, 'r'));
  CHECK(world.until([&] { return seeded.size() == kSeed; }));
  CHECK(std::string(seeded.begin(), seeded.end()) == std::string(kSeed, 'r'));
}

}  // namespace

int main() {
  signal(SIGPIPE, SIG_IGN);
  RUN(a_command_has_its_output_errors_and_status_told);
  RUN(every_byte_of_input_comes_back_from_cat);
  RUN(one_command_runs_after_the_other);
  RUN(a_signal_reaches_what_the_command_started);
  RUN(what_a_command_leaves_running_is_not_waited_for);
  RUN(a_command_whose_reader_waits_waits_too);
  RUN(input_a_command_does_not_read_is_taken_all_the_same);
  RUN(a_host_that_says_what_no_host_says_is_left);
  RUN(a_host_that_is_gone_takes_its_command_along);
  RUN(randomness_of_the_host_is_handed_on_whole);
  return finish();
}
