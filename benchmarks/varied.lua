-- Callbacks of many messages, for wrk: each request is made as it is sent, of any of them.
-- Arguments: a seed, and how many messages there are. It says when it begins, and at the end
-- each latency in µs and how often it was.

local STATUSES = {"SENT", "RECEIVED", "READ"}
local BODY = '{"status": "%s", "ids": ["3EB0%016X"], "momment": 1632234645000, ' ..
  '"phone": "55119%08d", "type": "MessageStatusCallback", "instanceId": "3A1B"}'

local heads = {}
local messages

function init(arguments)
  math.randomseed(tonumber(arguments[1]))
  messages = tonumber(arguments[2])
  for number, status in ipairs(STATUSES) do
    -- Of one length for every message, so the head is made once.
    local body = string.format(BODY, status, 0, 0)
    local whole = wrk.format("POST", wrk.path, {["content-type"] = "application/json"}, body)
    heads[number] = string.sub(whole, 1, #whole - #body)
  end
  print("ready")
  io.stdout:flush()
end

function request()
  local number = math.random(#STATUSES)
  local message = math.random(messages)
  return heads[number] .. string.format(BODY, STATUSES[number], message, message % 100000000)
end

function done(summary, latency, _)
  local errors = summary.errors
  local failed = errors.connect + errors.read + errors.write + errors.status + errors.timeout
  print(string.format("done %d failed %d in %d", summary.requests, failed, summary.duration))
  for number = 1, #latency do
    local taken, times = latency(number)
    print(string.format("latency %d %d", taken, times))
  end
end
