#include "head_scanner.h"

#include <algorithm>

namespace imageio::transport {

namespace {

// Digits of a length that is a safe integer, whatever they are.
constexpr size_t kMaxLengthDigits = 15;

bool IsTokenByte(unsigned char byte) {
  if (byte >= 'a' && byte <= 'z') return true;
  if (byte >= 'A' && byte <= 'Z') return true;
  if (byte >= '0' && byte <= '9') return true;
  return byte != 0 && std::string_view("!#$%&'*+-.^_`|~").find(static_cast<char>(byte)) !=
                          std::string_view::npos;
}

bool IsToken(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), IsTokenByte);
}

std::string_view Trimmed(std::string_view text) {
  const size_t begin = text.find_first_not_of(" \t");
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(" \t") - begin + 1);
}

bool ParseLength(std::string_view digits, int64_t* length) {
  if (digits.empty() || digits.size() > kMaxLengthDigits) return false;
  *length = 0;
  for (const char digit : digits) {
    if (digit < '0' || digit > '9') return false;
    *length = *length * 10 + (digit - '0');
  }
  return true;
}

}  // namespace

bool IsNamed(std::string_view text, std::string_view name) {
  return std::equal(text.begin(), text.end(), name.begin(), name.end(), [](char a, char b) {
    return (a >= 'A' && a <= 'Z' ? static_cast<char>(a + ('a' - 'A')) : a) == b;
  });
}

bool IsFieldValue(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](unsigned char byte) {
    return byte == '\t' || (byte >= 0x20 && byte != 0x7f);
  });
}

HeadVerdict HeadScanner::StartLine(std::string_view* line) {
  const HeadVerdict verdict = NextLine(kMaxStartLine - 2, line);
  fields_begin_ = position_;
  return verdict;
}

// A line ends with CRLF; CR or LF alone are odd, wherever they are.
HeadVerdict HeadScanner::NextLine(size_t limit, std::string_view* line) {
  const std::string_view rest = bytes_.substr(position_);
  const size_t end = rest.find_first_of("\r\n");
  if (end == std::string_view::npos) {
    return rest.size() > limit ? HeadVerdict::kOdd : HeadVerdict::kIncomplete;
  }
  if (end > limit || rest[end] != '\r') return HeadVerdict::kOdd;
  if (end + 1 == rest.size()) return HeadVerdict::kIncomplete;
  if (rest[end + 1] != '\n') return HeadVerdict::kOdd;
  *line = rest.substr(0, end);
  position_ += end + 2;
  return HeadVerdict::kPlain;
}

HeadVerdict HeadScanner::NextField(HeadField* field) {
  *field = HeadField();
  const size_t begin = position_;
  std::string_view line;
  const HeadVerdict verdict = NextLine(kMaxFieldBytes, &line);
  if (verdict != HeadVerdict::kPlain || line.empty()) return verdict;
  if (fields_++ == kMaxFields || position_ - fields_begin_ > kMaxFieldBytes) {
    return HeadVerdict::kOdd;
  }
  const size_t colon = line.find(':');
  if (colon == std::string_view::npos) return HeadVerdict::kOdd;
  const std::string_view name = line.substr(0, colon);
  const std::string_view value = Trimmed(line.substr(colon + 1));
  const bool is_odd = !IsToken(name) || !IsFieldValue(value) ||
                      IsNamed(name, "transfer-encoding") || IsNamed(name, "upgrade") ||
                      IsNamed(name, kWithheldField) ||
                      (IsNamed(name, "content-length") && !TakeLength(value, begin));
  if (is_odd) return HeadVerdict::kOdd;
  *field = {.name = name, .value = value};
  return HeadVerdict::kPlain;
}

bool HeadScanner::TakeLength(std::string_view value, size_t begin) {
  if (length_.is_there || !ParseLength(value, &length_.value)) return false;
  length_.is_there = true;
  length_.begin = begin;
  length_.end = position_;
  return true;
}

std::string WithoutLength(std::string_view bytes, size_t size, const LengthField& length,
                          std::string_view fields) {
  std::string text(bytes.substr(0, length.begin));
  text.append(fields).append(bytes.substr(length.end, size - length.end));
  return text;
}

}  // namespace imageio::transport
