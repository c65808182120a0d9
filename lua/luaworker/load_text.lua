-- SPDX-License-Identifier: MIT
-- Numbers of load tests as people read them. Pure.
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
