-- Callbacks of many messages, for wrk: each request is the next of some that were made beforehand.
-- Arguments: a seed, and how many messages there are. It says when they are made, and at the end
-- each latency in µs and how often it was.

local MADE = 10000
local STATUSES = {"SENT", "RECEIVED", "READ"}
local BODY = '{"status": "%s", "ids": ["3EB0%016X"], "momment": 1632234645000, ' ..
  '"phone": "55119%08d", "type": "MessageStatusCallback", "instanceId": "3A1B"}'

local requests = {}
local at = 0

function init(arguments)
  math.randomseed(tonumber(arguments[1]))
  local messages = tonumber(arguments[2])
  local path = wrk.path
  for made = 1, MADE do
    local message = math.random(messages)
    local body = string.format(BODY, STATUSES[math.random(#STATUSES)], message, message)
    requests[made] = wrk.format("POST", path, {["content-type"] = "application/json"}, body)
  end
  print("ready")
  io.stdout:flush()
end

function request()
  at = at % MADE + 1
  return requests[at]
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
