-- The load of one workload for wrk: what to send, and whether each answer is right.
-- BENCH_PLAN names a Lua file that returns the plan (see load.py, which writes it).
--   kind "cycle"    sends the prepared requests one after the other
--   kind "refresh"  sends the newest refresh token of a family; the answer brings the next one
--   kind "login"    turns prepared authorization requests into codes, and each code into tokens

local plan = dofile(os.getenv("BENCH_PLAN"))
local at, checked_once = 0, false
local queue, head, tail = {}, 1, 0

-- of this thread, read by done()
right, wrong, wrong_status, wrong_body = 0, 0, 0, ""

local watched
function setup(thread)
  watched = thread
end

local function push(value)
  tail = tail + 1
  queue[tail] = value
end

local function pop()
  if head > tail then return nil end
  local value = queue[head]
  queue[head] = nil
  head = head + 1
  return value
end

local function next_prepared()
  at = at % #plan.requests + 1
  return plan.requests[at]
end

local function post(body)
  return plan.head .. #body .. "\r\n\r\n" .. body
end

local function escape(text)
  return (text:gsub("[^%w%-%._~]", function(sign) return string.format("%%%02X", sign:byte()) end))
end

if plan.kind == "refresh" then
  for _, token in ipairs(plan.tokens) do push(token) end
end

function request()
  if not checked_once then
    checked_once = true -- wrk asks once before it starts and throws that request away
    return plan.requests and plan.requests[1] or post("")
  end
  if plan.kind == "refresh" then
    return post(plan.form .. escape(pop() or "no-token-is-left"))
  end
  if plan.kind == "login" then
    local code = pop()
    if code then return post(plan.form .. escape(code)) end
  end
  return next_prepared()
end

local function member(body, name)
  return body:match('"' .. name .. '": ?"([^"]+)"')
end

local function is_right(status, headers, body)
  if plan.kind == "cycle" then
    if status ~= plan.status then return false end
    if plan.location then
      local location = headers["location"] or headers["Location"] or ""
      return location:find(plan.location, 1, true) ~= nil
    end
    return body:find(plan.needle, 1, true) ~= nil
  end
  if plan.kind == "login" and status == 303 then
    local location = headers["location"] or headers["Location"] or ""
    local code = location:match("[?&]code=([^&]+)")
    if code then push(code) end
    return code ~= nil
  end
  if status ~= 200 or not member(body, "id_token") or not member(body, "access_token") then return false end
  if plan.kind == "refresh" then
    local token = member(body, "refresh_token")
    if token then push(token) end
    return token ~= nil
  end
  return true
end

function response(status, headers, body)
  if is_right(status, headers, body) then
    right = right + 1
  else
    wrong = wrong + 1
    if wrong == 1 then wrong_status, wrong_body = status, body:sub(1, 300) end
  end
end

function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    "BENCH requests=%d microseconds=%d p50=%d p99=%d right=%d wrong=%d lost=%d wrong_status=%d\n",
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    watched:get("right"), watched:get("wrong"),
    errors.connect + errors.read + errors.write + errors.timeout, watched:get("wrong_status")))
  io.write("BENCH-BODY " .. tostring(watched:get("wrong_body")):gsub("[\r\n]", " ") .. "\n")
end
