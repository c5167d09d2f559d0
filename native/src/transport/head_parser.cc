#include "head_parser.h"

#include <algorithm>

namespace imageio::transport {

namespace {

constexpr size_t kMaxMethod = 16;
constexpr std::string_view kVersion = "HTTP/1.1";
constexpr std::string_view kUploadPath = "/images/";

std::string FieldOf(const LengthField& length, std::string_view token) {
  std::string text(kWithheldField);
  text.append(": ").append(token);
  text.append(" ").append(std::to_string(length.value)).append("\r\n");
  return text;
}

// Whether a request line may come of it, a wrong one perhaps: who sends something else is not
// waited for.
bool MayBecomeRequestLine(std::string_view begin) {
  return std::all_of(begin.begin(), begin.end(), [](unsigned char byte) {
    return byte == '\r' || (byte >= 0x20 && byte < 0x7f);
  });
}

// `is_upload` is what the line alone says about it.
bool TakeRequestLine(std::string_view line, bool* is_upload) {
  const size_t method_end = line.find(' ');
  if (method_end == std::string_view::npos || method_end > kMaxMethod) return false;
  const std::string_view method = line.substr(0, method_end);
  const size_t target_end = line.find(' ', method_end + 1);
  if (target_end == std::string_view::npos) return false;
  const std::string_view target = line.substr(method_end + 1, target_end - method_end - 1);
  if (line.substr(target_end + 1) != kVersion || target.empty()) return false;
  const auto is_upper = [](char byte) { return byte >= 'A' && byte <= 'Z'; };
  const auto is_visible = [](unsigned char byte) { return byte > 0x20 && byte < 0x7f; };
  if (!std::all_of(method.begin(), method.end(), is_upper) || method == "CONNECT") return false;
  if (!std::all_of(target.begin(), target.end(), is_visible)) return false;
  *is_upload = method == "PUT" && target.starts_with(kUploadPath);
  return true;
}

bool TakeStatusLine(std::string_view line, int* status) {
  constexpr size_t kDigits = 3;
  const size_t begin = kVersion.size() + 1;
  if (line.size() <= begin + kDigits || !line.starts_with(kVersion)) return false;
  if (line[begin - 1] != ' ' || line[begin + kDigits] != ' ') return false;
  *status = 0;
  for (const char digit : line.substr(begin, kDigits)) {
    if (digit < '0' || digit > '9') return false;
    *status = *status * 10 + (digit - '0');
  }
  return IsFieldValue(line.substr(begin + kDigits));
}

}  // namespace

HeadVerdict ParseHead(std::string_view bytes, Head* head) {
  *head = Head();
  HeadScanner scanner(bytes);
  std::string_view line;
  HeadVerdict verdict = scanner.StartLine(&line);
  if (verdict == HeadVerdict::kIncomplete && !MayBecomeRequestLine(bytes)) {
    return HeadVerdict::kOdd;
  }
  if (verdict != HeadVerdict::kPlain) return verdict;
  bool is_upload = false;
  if (!TakeRequestLine(line, &is_upload)) return HeadVerdict::kOdd;
  bool has_expectation = false;
  for (;;) {
    HeadField field;
    verdict = scanner.NextField(&field);
    if (verdict != HeadVerdict::kPlain) return verdict;
    if (field.name.empty()) break;
    if (!IsNamed(field.name, "expect")) continue;
    if (has_expectation) return HeadVerdict::kOdd;
    has_expectation = true;
    is_upload = is_upload && IsNamed(field.value, "100-continue");
  }
  head->size = scanner.position();
  head->length = scanner.length();
  head->is_upload = is_upload && head->length.is_there;
  return HeadVerdict::kPlain;
}

std::string WithholdBody(std::string_view bytes, const Head& head, std::string_view token) {
  return WithoutLength(bytes, head.size, head.length, FieldOf(head.length, token));
}

HeadVerdict ParseResponseHead(std::string_view bytes, ResponseHead* head) {
  *head = ResponseHead();
  HeadScanner scanner(bytes);
  std::string_view line;
  HeadVerdict verdict = scanner.StartLine(&line);
  if (verdict != HeadVerdict::kPlain) return verdict;
  int status = 0;
  if (!TakeStatusLine(line, &status)) return HeadVerdict::kOdd;
  // 101 is the last that is HTTP.
  head->is_interim = status >= 100 && status < 200 && status != 101;
  if (!head->is_interim && status != 200 && status != 206) return HeadVerdict::kOdd;
  for (;;) {
    HeadField field;
    verdict = scanner.NextField(&field);
    if (verdict != HeadVerdict::kPlain) return verdict;
    if (field.name.empty()) break;
  }
  head->size = scanner.position();
  head->length = scanner.length();
  return head->length.is_there == head->is_interim ? HeadVerdict::kOdd : HeadVerdict::kPlain;
}

std::string WithholdBody(std::string_view bytes, const ResponseHead& head, std::string_view token) {
  return WithoutLength(bytes, head.size, head.length,
                       "Content-Length: 0\r\n" + FieldOf(head.length, token));
}

}  // namespace imageio::transport
