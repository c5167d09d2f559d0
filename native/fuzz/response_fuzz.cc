// What must hold of any bytes that a server answers with, see head_parser.h.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "../src/transport/head_parser.h"

using imageio::transport::HeadVerdict;
using imageio::transport::kMaxFieldBytes;
using imageio::transport::kMaxFields;
using imageio::transport::kMaxStartLine;
using imageio::transport::kWithheldField;
using imageio::transport::ParseResponseHead;
using imageio::transport::ResponseHead;
using imageio::transport::WithholdBody;

namespace {

void Require(bool holds) {
  if (!holds) std::abort();
}

HeadVerdict Verdict(std::string_view bytes) {
  ResponseHead head;
  return ParseResponseHead(bytes, &head);
}

// The head that the client gets says that there is no body, and is otherwise the same.
void CheckWithheld(std::string_view bytes, const ResponseHead& head) {
  std::string text = WithholdBody(bytes, head, "0123.1");
  Require(Verdict(text) == HeadVerdict::kOdd);
  const size_t field = text.find(kWithheldField, head.length.begin);
  Require(field != std::string::npos);
  text.replace(field, 1, "y");
  // Longer by so much that it may pass the limits; bodies of short heads only are withheld.
  const auto lines = std::count(text.begin(), text.end(), '\n');
  if (text.size() > kMaxFieldBytes || lines > static_cast<long>(kMaxFields)) return;
  ResponseHead rewritten;
  Require(ParseResponseHead(text, &rewritten) == HeadVerdict::kPlain);
  Require(rewritten.length.is_there && rewritten.length.value == 0);
  Require(rewritten.size == text.size());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  ResponseHead head;
  const HeadVerdict verdict = ParseResponseHead(bytes, &head);
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
  Require(head.is_interim != head.length.is_there && head.length.value >= 0);
  // Whatever comes behind it, and in whatever pieces it comes.
  Require(Verdict(bytes.substr(0, head.size)) == HeadVerdict::kPlain);
  for (size_t end = 0; end < head.size; end += 1 + head.size / 64) {
    Require(Verdict(bytes.substr(0, end)) == HeadVerdict::kIncomplete);
  }
  if (!head.is_interim) CheckWithheld(bytes, head);
  return 0;
}
