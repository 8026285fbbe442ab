-- What load.py has wrk do. Arguments:
--   lengths=N        check each response by itself: 200 with a body of N bytes
--   method=M         in place of GET
--   body=N           a request body of N bytes
--   headers=N        N headers beside Host
--   every=N:PATH     each Nth request is for this path
-- Prints a line of JSON at the end.

local threads = {}

function setup(thread)
    table.insert(threads, thread)
end

function init(arguments)
    wrong, example = 0, ""
    local options = {}
    for _, argument in ipairs(arguments) do
        local name, value = argument:match("^(%w+)=(.*)$")
        options[name] = value
    end
    wrk.method = options.method or "GET"
    if options.body then
        wrk.body = string.rep("0123456789abcdef", options.body / 16)
        wrk.headers["Content-Type"] = "application/octet-stream"
    end
    for number = 1, options.headers or 0 do
        wrk.headers[string.format("X-Forwarded-Something-%02d", number)] = string.format("value number %d", number)
    end
    if options.every then
        local nth, path = options.every:match("^(%d+):(.*)$")
        local usual, other, count = wrk.format(), wrk.format(nil, path), 0
        nth = tonumber(nth)
        request = function()
            count = count + 1
            if count % nth == 0 then return other end
            return usual
        end
    end
    if options.lengths then
        local length = tonumber(options.lengths)
        response = function(status, _, body)
            if status ~= 200 or #body ~= length then
                wrong = wrong + 1
                example = string.format("%d with %d bytes", status, #body)
            end
        end
    end
end

function done(summary, latency)
    local wrong, example = 0, ""
    for _, thread in ipairs(threads) do
        wrong = wrong + thread:get("wrong")
        if thread:get("wrong") > 0 then example = thread:get("example") end
    end
    local errors = summary.errors
    io.write(string.format(
        '\n{"requests": %d, "microseconds": %d, "received": %d, "broken": %d, "late": %d, "refused": %d,' ..
        ' "wrong": %d, "example": "%s", "p50": %.3f, "p90": %.3f, "p99": %.3f, "most": %.3f}\n',
        summary.requests, summary.duration, summary.bytes, errors.connect + errors.read + errors.write,
        errors.timeout, errors.status, wrong, example, latency:percentile(50) / 1000,
        latency:percentile(90) / 1000, latency:percentile(99) / 1000, latency.max / 1000))
end
