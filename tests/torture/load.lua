-- wrk posts the calls of a file, each once and one a line: expected status, time, signature, body, with tabs between.
-- A second before the end it falls silent, so that everything it sent is answered and can be counted.
local the_thread
local counted = {"sent_200", "sent_401", "got_200", "got_401", "got_other", "accepted"}

function setup(thread)
  the_thread = thread
end

function init(args)
  calls, place, silent_at = {}, 0, os.time() + tonumber(args[2]) - 1
  for _, name in ipairs(counted) do _G[name] = 0 end
  for line in io.lines(args[1]) do calls[#calls + 1] = line end
end

function delay()
  if os.time() >= silent_at or place >= #calls then return 3600000 end
  return 0
end

function request()
  if not is_tried then  -- wrk asks for one more, which it does not send
    is_tried = true
    return wrk.format("GET", "/healthz")
  end
  place = place + 1
  local status, time, signature, body = calls[math.min(place, #calls)]:match("(.-)\t(.-)\t(.-)\t(.*)")
  if place <= #calls then _G["sent_" .. status] = _G["sent_" .. status] + 1 end
  local headers = {["X-Encord-Timestamp"] = time, ["X-Encord-Signature"] = signature}
  return wrk.format("POST", "/webhooks/encord", headers, body)
end

function response(status, headers, body)
  local name = (status == 200 or status == 401) and "got_" .. status or "got_other"
  _G[name] = _G[name] + 1
  if body:find("accepted", 1, true) then accepted = accepted + 1 end
end

function done(summary, latency, requests)
  local totals = {p50_ms = latency:percentile(50) / 1000, p99_ms = latency:percentile(99) / 1000}
  totals.errors = summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout
  for _, name in ipairs(counted) do totals[name] = the_thread:get(name) end
  for name, value in pairs(totals) do io.write(name, "=", value, "\n") end
end
