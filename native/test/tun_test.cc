// SPDX-License-Identifier: Apache-2.0
// The port of a TUN queue: one read or one write is one packet with its VirtioNetHeader, and an error of the
// kernel's says whether packets may go where a super-packet may not.
#include "tun/tun_port.h"

#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <vector>

#include "check.h"

namespace {

/// The error of a write whose packet begins with this byte; 0: none.
int error_of_marked = 0;
constexpr uint8_t kMark = 0xee;

}  // namespace

/// Stands in front of libc's, for that.
extern "C" ssize_t writev(int fd, const iovec* parts, int count) {
  if (error_of_marked != 0 && *static_cast<const uint8_t*>(parts[1].iov_base) == kMark) {
    errno = error_of_marked;
    return -1;
  }
  return syscall(SYS_writev, fd, parts, count);
}

namespace {

using namespace omerta;
using namespace omerta::tun;
using inner::Port;
using inner::VirtioNetHeader;

/// A packet-mode pipe: one write is one packet, as with a TUN device.
class Pipe {
 public:
  Pipe() {
    if (pipe2(ends_, O_DIRECT | O_NONBLOCK) != 0) std::abort();
  }
  ~Pipe() {
    close(ends_[0]);
    close(ends_[1]);
  }
  int output() const { return ends_[0]; }
  int input() const { return ends_[1]; }
  std::vector<uint8_t> read_one() const {
    std::vector<uint8_t> out(4096);
    const ssize_t got = read(ends_[0], out.data(), out.size());
    out.resize(got < 0 ? 0 : static_cast<size_t>(got));
    return out;
  }

 private:
  int ends_[2];
};

/// Three packets in two, three and two parts; the second begins with the mark.
struct Batch {
  VirtioNetHeader header{1, inner::kGsoUdp, 20, 30, 40, 50};
  uint8_t first[5] = {0x45, 1, 2, 3, 4};
  uint8_t headers[3] = {kMark, 5, 6};
  uint8_t payload[4] = {7, 8, 9, 10};
  uint8_t last[2] = {0x45, 11};
  iovec parts_of_first[2] = {{&header, sizeof header}, {first, sizeof first}};
  iovec parts_of_second[3] = {{&header, sizeof header}, {headers, sizeof headers}, {payload, sizeof payload}};
  iovec parts_of_last[2] = {{&header, sizeof header}, {last, sizeof last}};
  inner::Gathered packets[3] = {parts_of_first, parts_of_second, parts_of_last};
};

std::vector<uint8_t> with_header(const VirtioNetHeader& header, const std::vector<uint8_t>& packet) {
  std::vector<uint8_t> whole(sizeof header + packet.size());
  store(whole.data(), header);
  std::memcpy(whole.data() + sizeof header, packet.data(), packet.size());
  return whole;
}

void each_packet_of_a_batch_is_one_write_gathered_from_its_parts() {
  const Pipe pipe;
  TunPort port(pipe.input());
  Batch batch;
  const Port::Taken taken = port.send(batch.packets);
  CHECK(taken.count == 3 && taken.stop == Port::Stop::none);
  CHECK(pipe.read_one() == with_header(batch.header, {0x45, 1, 2, 3, 4}));
  CHECK(pipe.read_one() == with_header(batch.header, {kMark, 5, 6, 7, 8, 9, 10}));
  CHECK(pipe.read_one() == with_header(batch.header, {0x45, 11}));
  const uint8_t plain[3] = {0x60, 1, 2};
  CHECK(port.send_one(plain, sizeof plain));
  CHECK(pipe.read_one() == with_header({}, {0x60, 1, 2}));
}

void a_batch_stops_at_what_the_kernel_does_not_take_and_says_why() {
  for (const auto& [error, stop] : {std::pair{EINVAL, Port::Stop::refused}, std::pair{EIO, Port::Stop::full},
                                    std::pair{EAGAIN, Port::Stop::full}}) {
    const Pipe pipe;
    TunPort port(pipe.input());
    Batch batch;
    error_of_marked = error;
    const Port::Taken taken = port.send(batch.packets);
    error_of_marked = 0;
    CHECK(taken.count == 1 && taken.stop == stop);
    CHECK(pipe.read_one() == with_header(batch.header, {0x45, 1, 2, 3, 4}));
    CHECK(pipe.read_one().empty());
  }
}

void packets_are_received_one_by_one_until_there_is_none() {
  const Pipe pipe;
  TunPort port(pipe.output());
  const VirtioNetHeader header{0, 0, 9, 8, 7, 6};
  for (const uint8_t last : {uint8_t{1}, uint8_t{2}}) {
    const std::vector<uint8_t> whole = with_header(header, {0x45, last});
    CHECK(write(pipe.input(), whole.data(), whole.size()) == static_cast<ssize_t>(whole.size()));
  }
  for (const uint8_t last : {uint8_t{1}, uint8_t{2}}) {
    const auto received = port.receive();
    CHECK(received.size() == 1);
    if (received.size() != 1) return;
    CHECK(received[0].size == 2 && received[0].data[0] == 0x45 && received[0].data[1] == last);
    CHECK(std::memcmp(received[0].header, &header, sizeof header) == 0);
  }
  CHECK(port.receive().empty());
}

}  // namespace

int main() {
  RUN(each_packet_of_a_batch_is_one_write_gathered_from_its_parts);
  RUN(a_batch_stops_at_what_the_kernel_does_not_take_and_says_why);
  RUN(packets_are_received_one_by_one_until_there_is_none);
  return omerta::check::finish();
}
