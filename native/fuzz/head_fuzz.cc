// What must hold of any bytes at the start of a connection, see head_parser.h.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "../src/transport/head_parser.h"

using imageio::transport::Head;
using imageio::transport::HeadVerdict;
using imageio::transport::kMaxFieldBytes;
using imageio::transport::kMaxStartLine;
using imageio::transport::kWithheldField;
using imageio::transport::ParseHead;
using imageio::transport::WithholdBody;

namespace {

void Require(bool holds) {
  if (!holds) std::abort();
}

HeadVerdict Verdict(std::string_view bytes) {
  Head head;
  return ParseHead(bytes, &head);
}

// The head that the server gets has no body, and is otherwise the same.
void CheckWithheld(std::string_view bytes, const Head& head) {
  std::string text = WithholdBody(bytes, head, "0123.1");
  Require(Verdict(text) == HeadVerdict::kOdd);
  Require(text.compare(head.length.begin, kWithheldField.size(), kWithheldField) == 0);
  text.replace(head.length.begin, 1, "y");
  Head rewritten;
  // Longer by so much that it may pass the limit; the front withholds bodies of short heads only.
  if (head.size + kWithheldField.size() + 32 > kMaxFieldBytes) return;
  Require(ParseHead(text, &rewritten) == HeadVerdict::kPlain);
  Require(!rewritten.length.is_there && !rewritten.is_upload);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  Head head;
  const HeadVerdict verdict = ParseHead(bytes, &head);
  if (verdict == HeadVerdict::kIncomplete) {
    Require(size <= kMaxStartLine + kMaxFieldBytes + 2);
    return 0;
  }
  if (verdict == HeadVerdict::kOdd) {
    // More bytes make nothing plain again.
    Require(Verdict(std::string(bytes) + "\r\n\r\n") == HeadVerdict::kOdd);
    return 0;
  }
  Require(head.size <= size && bytes.substr(0, head.size).ends_with("\r\n\r\n"));
  Require(bytes.find("\r\n\r\n") == head.size - 4);
  Require(head.length.value >= 0);
  // Whatever comes behind it, and in whatever pieces it comes.
  Require(Verdict(bytes.substr(0, head.size)) == HeadVerdict::kPlain);
  for (size_t end = 0; end < head.size; end += 1 + head.size / 64) {
    Require(Verdict(bytes.substr(0, end)) == HeadVerdict::kIncomplete);
  }
  if (head.is_upload) CheckWithheld(bytes, head);
  return 0;
}
