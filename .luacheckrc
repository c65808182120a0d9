-- Lua here runs under LuaJIT inside the program.
std = "luajit"
max_line_length = 100
max_code_line_length = 100
self = false

-- The declarations of runtime/script/api.h; handed over once, see lua/luaworker/base.lua.
files["lua/luaworker/base.lua"].globals = { "LW_CDEF", "LW_TESTING" }

-- Declarations for editors: functions without bodies, types without line breaks.
files["lua/types"] = { ignore = { "212", "241" }, max_line_length = false,
  max_code_line_length = false, max_comment_line_length = false }
