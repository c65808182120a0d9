-- Lua here runs under LuaJIT inside the program.
std = "luajit"
max_line_length = 100
max_code_line_length = 100
self = false

-- The declarations of runtime/script/api.h; handed over once, see lua/luaworker/base.lua.
files["lua/luaworker/base.lua"].globals = { "LW_CDEF", "LW_TESTING" }
