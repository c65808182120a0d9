-- SPDX-License-Identifier: MIT
-- Numbers of load tests as people read them, and what servers say as terminals and files may have
-- it. Pure.
local text = {}

-- Three digits that count, without a dangling zero.
local function short(value)
  if value >= 100 then return ("%.0f"):format(value) end
  return (("%.3g"):format(value))
end

--- A duration in seconds: "1.2 ms"; "-" for none.
function text.seconds(value)
  if value == nil then return "-" end
  if value == 0 then return "0" end
  if value < 0.001 then return short(value * 1e6) .. " us" end
  if value < 1 then return short(value * 1e3) .. " ms" end
  if value < 120 then return short(value) .. " s" end
  return text.clock(value)
end

--- "1:05" of 65 seconds, "1:00:05" of an hour more.
function text.clock(value)
  local whole = math.floor(value + 0.5)
  if whole < 3600 then return ("%d:%02d"):format(whole / 60, whole % 60) end
  return ("%d:%02d:%02d"):format(whole / 3600, whole % 3600 / 60, whole % 60)
end

--- 1,234,567 or 12.3; "-" for none.
function text.number(value)
  if value == nil then return "-" end
  if value < 1000 then return short(value) end
  local digits = ("%.0f"):format(value)
  local first = (#digits - 1) % 3 + 1
  return digits:sub(1, first) .. digits:sub(first + 1):gsub("(%d%d%d)", ",%1")
end

function text.percent(share)
  if share == nil then return "-" end
  return (("%.4g %%"):format(share * 100))
end

--- Rows of cells as lines: the first column to the left, the others to the right.
function text.columns(rows, gap)
  local widths = {}
  for _, row in ipairs(rows) do
    for i, cell in ipairs(row) do
      widths[i] = math.max(widths[i] or 0, #cell)
    end
  end
  local lines = {}
  for n, row in ipairs(rows) do
    local cells = {}
    for i, cell in ipairs(row) do
      local blank = (" "):rep(widths[i] - #cell)
      cells[i] = i == 1 and cell .. blank or blank .. cell
    end
    lines[n] = table.concat(cells, gap or "  "):gsub("%s+$", "")
  end
  return lines
end

-- The length of the UTF-8 sequence at this byte of s, when it is one that can be shown.
local function shown_length(s, at)
  local first = s:byte(at)
  if first < 0x80 then return first >= 0x20 and first ~= 0x7f and 1 or nil end
  local length = first >= 0xf0 and 4 or first >= 0xe0 and 3 or 2
  local whole = first >= 0xc2 and first <= 0xf4
    and s:find("^[\128-\191]" .. ("[\128-\191]"):rep(length - 2), at + 1)
  -- U+0080 to U+009F are control characters, too.
  return whole and not (first == 0xc2 and s:byte(at + 1) < 0xa0) and length or nil
end

--- What others sent, harmless: on one line, without control characters (a terminal obeys them) and
--- what is no UTF-8, at most so many bytes.
function text.plain(s, most)
  local out, at, left = {}, 1, most or 200
  s = s:sub(1, left + 4):gsub("%s+", " ")
  if not s:find "[%c\128-\255]" then return s:sub(1, left) end
  while at <= #s do
    local length = shown_length(s, at)
    left = left - (length or 1)
    if left < 0 then break end
    out[#out + 1] = length and s:sub(at, at + length - 1) or "?"
    at = at + (length or 1)
  end
  return table.concat(out)
end

--- A URL, or a text with one in it, as reports show it.
function text.without_password(s)
  return (s:gsub("(%a://)[^/@%s]*@", "%1***@"))
end

--- "1 worker", "2 workers".
function text.count(count, word)
  return ("%s %s%s"):format(text.number(count), word, count == 1 and "" or "s")
end

--- The names of outcomes, "ok" first, then by how often.
function text.outcome_names(outcomes)
  local names = {}
  for name in pairs(outcomes) do
    names[#names + 1] = name
  end
  table.sort(names, function(a, b)
    if (a == "ok") ~= (b == "ok") then return a == "ok" end
    if outcomes[a] ~= outcomes[b] then return outcomes[a] > outcomes[b] end
    return a < b
  end)
  return names
end

return text
