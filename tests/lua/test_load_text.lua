-- SPDX-License-Identifier: MIT
-- Numbers as people read them, and what servers say, made harmless.
local check = dofile((arg[0]:match "^(.*)/" or ".") .. "/check.lua")
local text = require "luaworker.load_text"

for value, shown in pairs {
  [0] = "0", [2.5e-7] = "0.25 us", [0.0123] = "12.3 ms", [1.5] = "1.5 s", [119] = "119 s",
  [125] = "2:05", [3725] = "1:02:05",
} do
  check.eq(text.seconds(value), shown)
end
check.eq(text.seconds(nil), "-")
check.eq(text.number(1234567.8), "1,234,568")
check.eq(text.number(0.5), "0.5")
check.eq(text.count(1, "request"), "1 request")
check.eq(text.count(1200, "request"), "1,200 requests")

-- What others sent --
for said, shown in pairs {
  ["plain, \"quoted\" <b>"] = "plain, \"quoted\" <b>",
  ["two\r\n  lines\t."] = "two lines .",
  ["\27[31mred\7\0\127"] = "?[31mred???",
  ["\194\155 31m"] = "?? 31m", -- U+009B, which terminals take for ESC [
  ["caf\195\169 \226\130\172 \240\159\152\128"] = "caf\195\169 \226\130\172 \240\159\152\128",
  ["\255\254 \195"] = "?? ?",
  ["\195\40"] = "?(",
  [""] = "",
} do
  check.eq(text.plain(said), shown)
end
check.eq(#text.plain(("x"):rep(1000)), 200)
check.eq(text.plain(("\195\169"):rep(1000), 5), "\195\169\195\169", "never half a character")
check.eq(text.plain("ab\27cd", 4), "ab?c")
for _ = 1, 300 do
  local bytes = {}
  for i = 1, 40 do
    bytes[i] = string.char(math.random(0, 255))
  end
  local shown = text.plain(table.concat(bytes), 30)
  check.ok(#shown <= 30 and not shown:find "%c" and not shown:find "\194[\128-\159]", shown)
end

check.eq(text.without_password "a http://me:secret@host/x@y b", "a http://***@host/x@y b")
check.eq(text.without_password "http://host/a@b", "http://host/a@b")

check.done()
