-- wrk script that sends rerank requests.
-- Arguments: case (uncached, cached, overlap), documents per request, path.
local words = { "model", "query", "document", "score", "rank", "search", "index", "engine" }
local case, documents, path = "uncached", 50, "/v1/rerank"
local headers = { ["Content-Type"] = "application/json" }
local threads, number = 0, 0

function setup(thread)
  threads = threads + 1
  thread:set("seed", threads)
end

local function text()
  local chosen = {}
  for i = 1, 20 do
    chosen[i] = words[math.random(#words)]
  end
  return table.concat(chosen, " ")
end

local function body(query, old, known)
  local texts = {}
  for i = 1, documents do
    texts[i] = '"' .. (i <= known and old[i] or text()) .. '"'
  end
  return '{"query":"' .. query .. '","documents":[' .. table.concat(texts, ",") .. "]}"
end

local old = {}

function init(args)
  case = args[1] or case
  documents = tonumber(args[2] or documents)
  path = args[3] or path
  -- The same documents in every run, so that the first request of a run fills the cache.
  math.randomseed(0)
  for i = 1, documents do
    old[i] = text()
  end
  math.randomseed(os.time() * 1000 + seed)
  -- The first request, whose documents are cached for `cached` and `overlap`.
  fixed = body("cached", old, documents)
end

function request()
  number = number + 1
  local sent = fixed
  if case == "uncached" then
    sent = body("q " .. seed .. " " .. number .. " " .. math.random(1000000000), old, 0)
  elseif case == "overlap" and number > 1 then
    sent = body("cached", old, math.floor(documents * 0.9))
  end
  return wrk.format("POST", path, headers, sent)
end

function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    'RESULT {"requests":%d,"seconds":%.3f,"p50_ms":%.2f,"p99_ms":%.2f,"errors":%d}\n',
    summary.requests, summary.duration / 1e6,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
