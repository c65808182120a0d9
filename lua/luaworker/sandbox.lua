-- SPDX-License-Identifier: MIT
-- What a script sees: globals of its own before a fixed view of the standard ones (standard.lua),
-- and load, require and their kin with the same. Once it is loaded, its globals are locked. This
-- keeps slips from spreading and the process alive; it is no wall against malice.
local await = require "luaworker.await"
local base = require "luaworker.base"
local module = require "luaworker.module"
local standard = require "luaworker.standard"

local sandbox = {}

local WRONG_MODE = "attempt to load chunk with wrong mode" -- LuaJIT's words for it

local function read_file(path)
  local hazard = standard.hazard(path)
  if hazard then return nil, hazard end
  local file, err = io.open(path, "rb")
  local text = file and file:read "*a"
  if file then file:close() end
  base.C.lw_api_script_file(path, #path, text, text and #text or 0)
  return text, err
end

-- The script's functions are not compiled: the hook that stops one which loops does not fire in
-- compiled code. Programs have nobody beside them.
local function compile(text, name, env, mode)
  local chunk, err = load(text, name, "t", env)
  if not chunk then await.check_ending(err) end -- text may be a function of the author's
  if err == WRONG_MODE then err = "it is bytecode, and only text is loaded" end
  if chunk and mode ~= "run" then jit.off(chunk, true) end
  return chunk, err
end

-- By a script's globals, until they are locked: the files that it was loaded from.
local files_of = setmetatable({}, { __mode = "k" })

local function compile_file(text, path, env, mode)
  local chunk, err = compile(text, "@" .. path, env, mode)
  local files = files_of[env]
  if files then files[#files + 1] = { path = path, text = text, chunk = chunk } end
  return chunk, err
end

--- load() and its kin, with the script's globals and without bytecode.
local function add_loaders(env, mode)
  function env.load(chunk, name, _, globals)
    if globals ~= nil and type(globals) ~= "table" then
      error("load: expected a table of globals, got " .. base.show(globals), 2)
    end
    return compile(chunk, name, globals or env, mode)
  end
  function env.loadstring(text, name)
    return compile(text, name or text, env, mode)
  end
  function env.loadfile(path)
    base.expect_string(path, "loadfile")
    local text, err = read_file(path)
    if not text then return nil, err end
    return compile_file(text, path, env, mode)
  end
  function env.dofile(path)
    local chunk, err = env.loadfile(path)
    if not chunk then error(err, 2) end
    return chunk()
  end
end

local function add_require(env, path, mode)
  module.add_require(env, path, mode, {
    read = read_file,
    compile = function(text, found) return compile_file(text, found, env, mode) end,
  })
end

--- The script's main function, with globals of its own, and the files of the script, { path, text,
--- chunk } each, itself first, modules as it loads them; or nil and what is wrong with its text.
function sandbox.compile(path, text, mode)
  local env, files = {}, {}
  env._G = env
  setmetatable(env, { __index = standard.view(mode), __metatable = false })
  if mode ~= "run" then files_of[env] = files end
  add_loaders(env, mode)
  add_require(env, path, mode)
  local chunk, err = compile_file(text, path, env, mode)
  if chunk then return chunk, files end
  return nil, err:find(path, 1, true) and err or path .. ": " .. err
end

local function refuse_global(_, name)
  local text = tostring(name)
  error(("assignment to the global '%s' after the script was loaded: make it local above the "
    .. "functions that use it (local %s)"):format(text, text), 2)
end

--- The script has been loaded: none of its functions may assign a global from now on, for nothing
--- would tell which request it is of.
function sandbox.lock(chunk)
  local env = getfenv(chunk)
  local meta = debug.getmetatable(env)
  local globals = setmetatable({}, { __index = meta.__index })
  for name, value in next, env do
    globals[name] = value
  end
  for name in next, globals do
    env[name] = nil
  end
  meta.__index, meta.__newindex = globals, refuse_global
  files_of[env] = nil
end

return sandbox
