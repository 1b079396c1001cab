-- Gives answers over HTTP what HTTP has of its own: ETag and 304, 412, Retry-After, WWW-Authenticate,
-- and the names of fields as the caller wrote them. It comes after requests.lua, and uses its tables
-- and functions.

local MODULUS, FACTOR = 4294967296, 65599
-- What the transcoder leaves of the answer that it has read.
local OF_GRPC = { "grpc-accept-encoding", "grpc-encoding", "grpc-message", "grpc-status" }
local CHALLENGE = 'Bearer realm="kith"' -- where a service has refused a token, and not Envoy
local PATIENCE = "1" -- seconds, where nothing is said of when to retry

-- Returns a hash of 32 bits. An etag has it beside the version of the resource, so that it tells
-- apart the answers that a resource has without being changed, such as by new URLs of its photos.
local function hash(text)
  local sum = 0
  for at = 1, #text do
    sum = (sum * FACTOR + byte(text, at)) % MODULUS
  end
  return string.format("%08x", sum)
end

local function replace_body(handle, text)
  handle:body(true):setBytes(text)
  handle:headers():replace("content-length", tostring(#text))
end

-- What was had of the handle before cannot be used afterwards, because this waits.
local function whole_body(handle)
  local body = handle:body(true)
  return body:getBytes(0, body:length())
end

-- Returns the ETag of an answer that is one resource: fields come in the order of the contracts, so
-- that the first etag is the resource's own, before all that callers could name so.
local function etag_of(text)
  local version = match(text, '"etag":"\\"([^"\\]+)\\""')
  return version and '"' .. version .. "." .. hash(text) .. '"'
end

local function is_among(etag, list)
  for one in gmatch(list, "[^,]+") do
    local opaque = match(one, '^%s*W?/?(".*")%s*$') or match(one, "^%s*(%*)%s*$")
    if opaque == etag or opaque == "*" then
      return true
    end
  end
  return false
end

-- Gives the answer that is a resource its ETag, and leaves it out if the caller has it.
local function name_version(handle, none_match)
  local etag = etag_of(whole_body(handle))
  if not etag then
    return
  end
  local headers = handle:headers()
  headers:replace("etag", etag)
  if none_match and is_among(etag, none_match) then
    headers:replace(":status", "304")
    headers:remove("content-type")
    replace_body(handle, "")
    headers:remove("content-length")
  end
end

-- Returns a field of an error as callers over HTTP know it.
local function name_of(field, call, written)
  local own = call.names[field]
  if not own and call.body and sub(field, 1, #call.body) == call.body then
    own = sub(field, #call.body + 1)
  end
  return (gsub(own or field, "[%a_][%w_]*", function(part)
    return written and written[part] and part or camel_case(part)
  end))
end

local function quoted(pattern)
  return (gsub(pattern, "%W", "%%%0"))
end

local function rename_fields(text, call, written)
  local names = {}
  text = gsub(text, '"field":"([^"\\]*)"', function(field)
    names[field] = name_of(field, call, written)
    return '"field":"' .. names[field] .. '"'
  end)
  for field, name in pairs(names) do
    if name ~= field then
      -- The message lists what is wrong with each.
      text = gsub(text, '([" ])' .. quoted(field) .. ": ", "%1" .. gsub(name, "%%", "%%%%") .. ": ")
    end
  end
  return text
end

local function amend_error(handle, status, about)
  local text = whole_body(handle)
  local headers = handle:headers()
  if (status == "429" or status == "503") and not headers:get("retry-after") then
    local seconds = match(text, '"retryDelay":"([%d.]+)s"')
    seconds = seconds and math.max(1, math.ceil(tonumber(seconds)))
    headers:replace("retry-after", seconds and tostring(seconds) or PATIENCE)
  end
  if status == "401" and not headers:get("www-authenticate") then
    headers:replace("www-authenticate", CHALLENGE)
  end
  if about.is_conditional and find(text, '"reason":"ETAG_MISMATCH"', 1, true) then
    headers:replace(":status", "412")
  end
  local call = CALLS[about.name]
  if call and find(text, '"fieldViolations"', 1, true) then
    local renamed = rename_fields(text, call, about.written)
    if renamed ~= text then
      replace_body(handle, renamed)
    end
  end
end

function envoy_on_response(handle)
  local headers = handle:headers()
  if is_grpc(headers:get("content-type")) then
    return
  end
  local metadata = handle:streamInfo():dynamicMetadata()
  local about, status = metadata:get("kith.call") or {}, headers:get(":status")
  if about.name then
    for _, name in ipairs(OF_GRPC) do
      headers:remove(name)
    end
  end
  local is_read = false
  if byte(status) ~= 50 then -- a 2
    is_read = not metadata:get("kith.refusal")
    if is_read then
      amend_error(handle, status, about)
    end
  elseif about.name and CALLS[about.name].resource then
    is_read = true
    name_version(handle, about.none_match)
  end
  -- Leaves out the body of an answer to HEAD, which cannot be read in pieces after it was as a whole.
  if about.is_head and is_read then
    handle:body(true):setBytes("")
  elseif about.is_head then
    for chunk in handle:bodyChunks() do
      chunk:setBytes("")
    end
  end
end
