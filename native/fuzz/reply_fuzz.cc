// What must hold of any bytes from an NBD server, see reply_stream.h. The first tells the dialect,
// the second in what pieces the rest comes.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <string>
#include <vector>

#include "../src/nbd/pending_read.h"
#include "../src/nbd/reply_stream.h"

using imageio::nbd::Dialect;
using imageio::nbd::PendingRead;
using imageio::nbd::PendingReads;
using imageio::nbd::ReplySink;
using imageio::nbd::ReplyStream;

namespace {

void Require(bool holds) {
  if (!holds) std::abort();
}

struct Outcome : ReplySink {
  std::vector<uint8_t> bytes;
  std::vector<uint32_t> finished;
  std::string violation;
  std::vector<uint8_t> one;
  std::vector<uint8_t> two;

  void Finished(uint32_t cookie) override {
    Require(violation.empty() && (cookie == 1 || cookie == 2));
    Require(std::ranges::find(finished, cookie) == finished.end());
    finished.push_back(cookie);
  }
  void Bytes(std::span<const uint8_t> more) override {
    Require(violation.empty());
    bytes.insert(bytes.end(), more.begin(), more.end());
  }
  void Broken(const char* how) override {
    Require(violation.empty());
    violation = how;
  }
};

// `piece` 0 is all at once; else data go to their place directly, as from a socket.
Outcome Run(Dialect dialect, std::span<const uint8_t> bytes, size_t piece, uint8_t fill) {
  Outcome outcome;
  outcome.one.assign(600, fill);
  outcome.two.assign(100, fill);
  PendingReads reads;
  reads.Add(1, PendingRead(1000, outcome.one));
  reads.Add(2, PendingRead(0, outcome.two));
  ReplyStream stream({.dialect = dialect, .cookie_high = 7}, reads, outcome);
  if (piece == 0) stream.Feed(bytes);
  while (piece > 0 && !bytes.empty() && !stream.is_broken()) {
    const auto target = stream.direct();
    const size_t size = std::min(bytes.size(), piece);
    const size_t placed = std::min(size, target.size());
    std::copy_n(bytes.data(), placed, target.data());
    if (placed > 0) stream.Filled(placed);
    stream.Feed(bytes.subspan(placed, size - placed));
    bytes = bytes.subspan(size);
  }
  Require(stream.is_broken() == !outcome.violation.empty());
  return outcome;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  const auto dialect = static_cast<Dialect>(data[0] % 3);
  const std::span<const uint8_t> bytes(data + 2, size - 2);
  const Outcome whole = Run(dialect, bytes, 0, 0x00);
  const Outcome pieces = Run(dialect, bytes, size_t{data[1]} + 1, 0x00);
  // In whatever pieces it comes.
  Require(whole.bytes == pieces.bytes && whole.finished == pieces.finished);
  Require(whole.violation == pieces.violation);
  Require(whole.one == pieces.one && whole.two == pieces.two);
  Require(whole.bytes.size() <= bytes.size());
  // Where nothing was left to the other parser there was no error, and what is finished is all
  // there: nothing of it is what lay in the memory before.
  if (!whole.bytes.empty()) return 0;
  const Outcome other = Run(dialect, bytes, 0, 0xff);
  for (const uint32_t cookie : whole.finished) {
    Require(cookie == 1 ? whole.one == other.one : whole.two == other.two);
  }
  return 0;
}
