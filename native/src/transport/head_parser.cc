#include "head_parser.h"

#include <algorithm>

namespace imageio::transport {

namespace {

// Digits of a length that is a safe integer, whatever they are.
constexpr size_t kMaxLengthDigits = 15;
constexpr size_t kMaxMethod = 16;
constexpr std::string_view kVersion = "HTTP/1.1";
constexpr std::string_view kUploadPath = "/images/";

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

bool IsValue(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](unsigned char byte) {
    return byte == '\t' || (byte >= 0x20 && byte != 0x7f);
  });
}

// `name` in lower case.
bool Is(std::string_view text, std::string_view name) {
  return std::equal(text.begin(), text.end(), name.begin(), name.end(), [](char a, char b) {
    return (a >= 'A' && a <= 'Z' ? static_cast<char>(a + ('a' - 'A')) : a) == b;
  });
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

class Parser {
 public:
  Parser(std::string_view bytes, Head* head) : bytes_(bytes), head_(*head) {}

  HeadVerdict Parse() {
    std::string_view line;
    HeadVerdict verdict = NextLine(kMaxRequestLine - 2, &line);
    if (verdict != HeadVerdict::kPlain) return verdict;
    if (!TakeRequestLine(line)) return HeadVerdict::kOdd;
    const size_t fields_begin = position_;
    for (size_t count = 0;; count++) {
      const size_t begin = position_;
      verdict = NextLine(kMaxFieldBytes, &line);
      if (verdict != HeadVerdict::kPlain) return verdict;
      if (line.empty()) break;
      if (count == kMaxFields || position_ - fields_begin > kMaxFieldBytes ||
          !TakeField(line, begin)) {
        return HeadVerdict::kOdd;
      }
    }
    head_.size = position_;
    head_.is_upload =
        is_put_ && has_length_ && (!has_expectation_ || expects_continue_) && is_image_;
    return HeadVerdict::kPlain;
  }

 private:
  // A line ends with CRLF; CR or LF alone are odd, wherever they are.
  HeadVerdict NextLine(size_t limit, std::string_view* line) {
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

  bool TakeRequestLine(std::string_view line) {
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
    is_put_ = method == "PUT";
    is_image_ = target.starts_with(kUploadPath);
    return true;
  }

  bool TakeField(std::string_view line, size_t begin) {
    const size_t colon = line.find(':');
    if (colon == std::string_view::npos) return false;
    const std::string_view name = line.substr(0, colon);
    const std::string_view value = Trimmed(line.substr(colon + 1));
    if (!IsToken(name) || !IsValue(value)) return false;
    if (Is(name, "transfer-encoding") || Is(name, "upgrade") || Is(name, kWithheldField)) {
      return false;
    }
    if (Is(name, "expect")) {
      if (has_expectation_) return false;
      has_expectation_ = true;
      expects_continue_ = Is(value, "100-continue");
    }
    if (!Is(name, "content-length")) return true;
    if (has_length_ || !ParseLength(value, &head_.content_length)) return false;
    has_length_ = true;
    head_.length_begin = begin;
    head_.length_end = position_;
    return true;
  }

  const std::string_view bytes_;
  Head& head_;
  size_t position_ = 0;
  bool is_put_ = false;
  bool is_image_ = false;
  bool has_length_ = false;
  bool has_expectation_ = false;
  bool expects_continue_ = false;
};

}  // namespace

HeadVerdict ParseHead(std::string_view bytes, Head* head) {
  *head = Head();
  return Parser(bytes, head).Parse();
}

std::string WithholdBody(std::string_view bytes, const Head& head, std::string_view token) {
  std::string text(bytes.substr(0, head.length_begin));
  text.append(kWithheldField).append(": ").append(token);
  text.append(" ").append(std::to_string(head.content_length)).append("\r\n");
  text.append(bytes.substr(head.length_end, head.size - head.length_end));
  return text;
}

}  // namespace imageio::transport
