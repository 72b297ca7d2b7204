-- Posts the bodies of a file (one a line) in turn, and prints one line of JSON for the runner.
-- BENCH_BODIES names the file, BENCH_KEY the bearer key (both sides are sent the same bytes).
local requests = {}
local position = 0

function init(arguments)
  wrk.method = "POST"
  wrk.headers["Content-Type"] = "application/json"
  wrk.headers["Authorization"] = "Bearer " .. os.getenv("BENCH_KEY")
  for body in io.lines(os.getenv("BENCH_BODIES")) do
    requests[#requests + 1] = wrk.format(nil, nil, nil, body)
  end
end

function request()
  position = position % #requests + 1
  return requests[position]
end

function done(summary, latency, _)
  local failed = summary.errors.connect + summary.errors.read + summary.errors.write
    + summary.errors.status + summary.errors.timeout
  io.write(string.format(
    '\nBENCH {"requests": %d, "microseconds": %d, "failed": %d, "p50_us": %d, "p99_us": %d, "max_us": %d}\n',
    summary.requests, summary.duration, failed, latency:percentile(50), latency:percentile(99), latency.max))
end
