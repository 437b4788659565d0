// The byte-level alphabet: every byte as one printable character, so that vocabularies of bytes can
// be written as text. Printable bytes of Latin-1 stand for themselves; the other 68, in order, are
// U+0100, U+0101, ... (a space is U+0120 "Ġ"). Threads: any.
#pragma once

#include <string>
#include <string_view>

namespace sluice {

// Appends the characters of each byte.
void append_byte_level(std::string_view bytes, std::string& out);

// The bytes that a token stands for; a token with a character outside the alphabet (an added token)
// stands for itself. token: valid UTF-8.
void append_bytes_of_token(std::string_view token, std::string& out);

}  // namespace sluice
