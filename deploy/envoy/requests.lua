-- Refuses what the transcoder would drop or would let count before the path: parameters and fields
-- that the call does not know, that are given twice, or that say what the path says.
--
-- ROUTES, MESSAGES and REFUSALS are put before this file: shared/cli/http_rules.py makes the first
-- two of the contracts. The transcoder takes more than JSON, such as names without quotes. What is
-- not JSON is refused here, or it could see a field where this file sees none.

local find, match, sub, byte, char = string.find, string.match, string.sub, string.byte, string.char

local MOST_STEPS = 100000 -- far more than any call takes; it bounds the time
local MOST_HEADER_BYTES = 8192 -- with what is added on the way, less than the services take
local MOST_SHOWN = 100 -- characters of a name that is quoted in an error
local FIRST = { -- what a value begins with
  flag = { characters = "tf", named = "true or false" },
  number = { characters = '"-0123456789', named = "a number" },
  enum = { characters = '"-0123456789', named = "a name or a number" },
  text = { characters = '"', named = "a string" },
  message = { characters = "{", named = "an object" },
}
-- What the names of a map must be, as patterns. A number and a flag have one spelling here, so that
-- two names are never the same value; the transcoder takes more.
local NAMES = {
  flag = { patterns = { "^true$", "^false$" }, named = "true or false" },
  number = { patterns = { "^0$", "^-?[1-9]%d*$" }, named = "a whole number" },
  text = { patterns = { "" } },
}
local ESCAPED = {
  ['"'] = '"',
  ["\\"] = "\\",
  ["/"] = "/",
  b = "\b",
  f = "\f",
  n = "\n",
  r = "\r",
  t = "\t",
}
local BACKSLASH = 92

local function refuse(field, why)
  error({ field = field, why = why }, 0)
end

local function unescaped(text)
  local decoded = string.gsub(text, "%%(%x%x)", function(digits)
    return char(tonumber(digits, 16))
  end)
  return decoded
end

-- The path --------------------------------------------------------------------------------------

-- Returns the calls that have a path, by their methods, and the texts of its variables.
local function routes_of(path)
  local rest, verb = match(path, "^(.*):([^/:]*)$")
  local node, values = ROUTES, {}
  for segment in string.gmatch(rest or path, "[^/]+") do
    local next_node = node.literals[segment]
    if not next_node then
      next_node = node.variable
      values[#values + 1] = unescaped(segment)
    end
    if not next_node then
      return {}
    end
    node = next_node
  end
  if verb then
    node = node.verbs[verb]
  end
  return node and node.methods or {}, values
end

local function names_of(methods)
  local names = {}
  for name in pairs(methods) do
    names[#names + 1] = name
  end
  if methods.GET then
    names[#names + 1] = "HEAD"
  end
  table.sort(names)
  return table.concat(names, ", ")
end

-- Returns what the path says, as a tree by the names of fields.
local function said_by_path(route, values)
  local said = {}
  for number, way in ipairs(route.variables) do
    local inner = said
    for step = 1, #way - 1 do
      inner[way[step]] = inner[way[step]] or {}
      inner = inner[way[step]]
    end
    inner[way[#way]] = values[number]
  end
  return said
end

-- The query -------------------------------------------------------------------------------------

local function check_parameter(route, said, seen, name)
  local fields, inner, way, field = MESSAGES[route.message], said, {}, nil
  for part in string.gmatch(name .. ".", "([^.]*)%.") do
    field = fields and fields[part]
    if not field then
      refuse(name, "is not a parameter of this call")
    end
    way[#way + 1] = field.name
    inner = type(inner) == "table" and inner[field.name] or nil
    fields = not field.is_repeated and MESSAGES[field.message] or nil
  end
  if type(inner) == "string" then
    refuse(name, "is in the path and must not be a parameter")
  end
  if field.kind == "message" or route.body == "*" or route.body == way[1] then
    refuse(name, "is not a parameter of this call")
  end
  local whole = table.concat(way, ".")
  if seen[whole] and not field.is_repeated then
    refuse(name, "is given twice")
  end
  seen[whole] = true
end

local function check_query(route, said, query)
  local seen = {}
  for parameter in string.gmatch(query, "[^&]+") do
    local name, value = match(parameter, "^([^=]*)=(.*)$")
    local decoded = unescaped((string.gsub(name or parameter, "+", " ")))
    check_parameter(route, said, seen, decoded)
    if not value then
      refuse(decoded, "has no value")
    end
  end
end

-- The body --------------------------------------------------------------------------------------
-- `scan` is one body: its text, the steps that reading it has taken, and the way to where it is, of
-- names and of numbers in lists.

local function malformed(at)
  refuse(nil, "the body is not JSON from byte " .. at .. " on")
end

local function refuse_here(scan, why)
  local way = scan.way[1]
  for depth = 2, scan.depth do
    local part = scan.way[depth]
    way = way .. (type(part) == "number" and "[" .. part .. "]" or "." .. part)
  end
  refuse(way, why)
end

local function step(scan)
  scan.steps = scan.steps + 1
  if scan.steps > MOST_STEPS then
    refuse(nil, "the body has too many values")
  end
end

-- Returns the next character that is not white space, and where it is.
local function next_character(scan, at)
  local found = find(scan.text, "[^ \t\r\n]", at)
  if not found then
    malformed(#scan.text + 1)
  end
  return sub(scan.text, found, found), found
end

-- Returns where the string that begins at `at` ends: at a quote after no backslash, or after two.
-- What is inside is left to the transcoder.
local function string_end(scan, at)
  local text, stop = scan.text, at
  repeat
    step(scan)
    stop = find(text, '"', stop + 1, true) or malformed(at)
    local before = stop - 1
    while byte(text, before) == BACKSLASH do
      before = before - 1
    end
  until (stop - before) % 2 == 1
  return stop
end

local function is_number(text)
  local rest = match(text, "^-?0(%D?.*)$") or match(text, "^-?[1-9]%d*(%D?.*)$")
  rest = rest and (match(rest, "^%.%d+(.*)$") or rest)
  return rest == "" or rest and find(rest, "^[eE][+-]?%d+$")
end

-- Returns a string, a number, true or false as text, and where it ends. Numbers stay text: as
-- numbers of Lua, ids past 2^53 would be taken for others.
local function scalar(scan, first, at)
  if first == '"' then
    local stop = string_end(scan, at)
    return sub(scan.text, at + 1, stop - 1), stop
  end
  local _, stop, text = find(scan.text, "^([%w.+-]+)", at)
  if text ~= "true" and text ~= "false" and not is_number(text) then
    malformed(at)
  end
  return text, stop
end

local function utf8(code)
  if code < 0x80 then
    return char(code)
  end
  local rest = char(0x80 + code % 0x40)
  code = math.floor(code / 0x40)
  if code < 0x20 then
    return char(0xC0 + code) .. rest
  end
  rest = char(0x80 + code % 0x40) .. rest
  code = math.floor(code / 0x40)
  if code < 0x10 then
    return char(0xE0 + code) .. rest
  end
  return char(0xF0 + math.floor(code / 0x40), 0x80 + code % 0x40) .. rest
end

-- Returns the character that an escape at `at` stands for, and where the escape ends; nothing if it
-- stands for none, as half of a surrogate pair does.
local function escaped(text, at)
  local kind = sub(text, at + 1, at + 1)
  if kind ~= "u" then
    return ESCAPED[kind], at + 1
  end
  local code = tonumber(match(text, "^%x%x%x%x", at + 2) or "", 16)
  if not code or code < 0xD800 or code > 0xDFFF then
    return code and utf8(code), at + 5
  end
  local low = tonumber(match(text, "^\\u([dD][c-fC-F]%x%x)", at + 6) or "", 16)
  if not low or code > 0xDBFF then
    return nil
  end
  return utf8(0x10000 + (code - 0xD800) * 0x400 + low - 0xDC00), at + 11
end

-- Returns a string without its escapes: two strings that mean the same are then equal.
local function meaning(scan, text)
  local parts, from = {}, 1
  local at = find(text, "\\", 1, true)
  while at do
    step(scan)
    local character, stop = escaped(text, at)
    if not character then
      refuse_here(scan, "has an escape that stands for no character")
    end
    parts[#parts + 1] = sub(text, from, at - 1) .. character
    from = stop + 1
    at = find(text, "\\", from, true)
  end
  return table.concat(parts) .. sub(text, from)
end

-- Returns what a name in an object is given to: a field of a message, or the values of a map. And
-- the name that all spellings have in common.
local function named(scan, fields, map, name)
  if not map then
    local field = fields[name]
    if not field then
      refuse_here(scan, "is not a field of this call")
    end
    return field, field.name
  end
  local kind, common = NAMES[map.names], meaning(scan, name)
  for _, pattern in ipairs(kind.patterns) do
    if find(common, pattern) then
      return map, common
    end
  end
  refuse_here(scan, "must have a name that is " .. kind.named)
end

local object

-- Reads one value, which begins at `at`; returns where it ends.
local function value(scan, field, said, first, at)
  step(scan)
  local kind = FIRST[field.kind]
  if not find(kind.characters, first, 1, true) then
    if not find(first, '[%w"%[{-]') then
      malformed(at)
    end
    refuse_here(scan, "must be " .. kind.named)
  end
  if first == "{" then
    return object(scan, field, said, at)
  end
  local text, stop = scalar(scan, first, at)
  if said and text ~= said then
    refuse_here(scan, "must equal the value in the path")
  end
  return stop
end

-- Reads a list of values, which begins at `at`; returns where it ends.
local function list(scan, field, at)
  local first, stop = next_character(scan, at + 1)
  if first == "]" then
    return stop
  end
  local depth, number = scan.depth + 1, 0
  scan.depth = depth
  while true do
    scan.way[depth] = number
    stop = value(scan, field, nil, first, stop)
    first, stop = next_character(scan, stop + 1)
    if first == "]" then
      scan.depth = depth - 1
      return stop
    end
    if first ~= "," then
      malformed(stop)
    end
    number = number + 1
    first, stop = next_character(scan, stop + 1)
  end
end

-- Reads what a field is given; returns where it ends.
local function given(scan, field, said, first, at)
  if first == "n" and type(said) ~= "string" and find(scan.text, "^null", at) then
    return at + 3
  end
  if field.is_repeated then
    if first ~= "[" then
      refuse_here(scan, "must be a list")
    end
    return list(scan, field, at)
  end
  return value(scan, field, said, first, at)
end

-- Reads an object of a message or a map, which begins at `at`; returns where it ends. `said` is what
-- the path says of a message's fields.
function object(scan, kind, said, at)
  local first, stop = next_character(scan, at + 1)
  if first == "}" then
    return stop
  end
  local fields, map = MESSAGES[kind.message], kind.map
  local depth, seen = scan.depth + 1, {}
  scan.depth = depth
  while true do
    if first ~= '"' then
      malformed(stop)
    end
    local quote = string_end(scan, stop)
    local name = sub(scan.text, stop + 1, quote - 1)
    scan.way[depth] = name
    local field, common = named(scan, fields, map, name)
    if seen[common] then
      refuse_here(scan, "is given twice")
    end
    seen[common] = true
    first, stop = next_character(scan, quote + 1)
    if first ~= ":" then
      malformed(stop)
    end
    first, stop = next_character(scan, stop + 1)
    if map then
      -- In a map null stands for no default that callers could know.
      stop = value(scan, field, nil, first, stop)
    else
      stop = given(scan, field, said and said[common], first, stop)
    end
    first, stop = next_character(scan, stop + 1)
    if first == "}" then
      scan.depth = depth - 1
      return stop
    end
    if first ~= "," then
      malformed(stop)
    end
    first, stop = next_character(scan, stop + 1)
  end
end

local function check_body(route, said, text)
  if not route.body then
    refuse(nil, "this call takes no body")
  end
  local kind = { message = route.message }
  if route.body ~= "*" then
    kind = MESSAGES[route.message][route.body]
    said = said[kind.name]
  end
  local scan = { text = text, steps = 0, way = {}, depth = 0 }
  local first, at = next_character(scan, 1)
  if first ~= "{" then
    malformed(at)
  end
  local stop = object(scan, kind, said, at)
  local rest = find(text, "[^ \t\r\n]", stop + 1)
  if rest then
    malformed(rest)
  end
end

-- The call --------------------------------------------------------------------------------------

local function check(route, values, query, text)
  local said = said_by_path(route, values)
  if query then
    check_query(route, said, query)
  end
  if text then
    check_body(route, said, text)
  end
end

-- What a caller wrote, for an error: short, and of printable ASCII, because it may not be UTF-8.
local function shown(name)
  return (string.gsub(sub(name, 1, MOST_SHOWN), "[^ -~]", "?"))
end

local function answer(handle, refusal)
  if not refusal.field then
    return handle:respond({ [":status"] = "400" }, refusal.why)
  end
  local field = shown(refusal.field)
  local metadata = handle:streamInfo():dynamicMetadata()
  metadata:set("kith.refusal", "field", field)
  metadata:set("kith.refusal", "description", refusal.why)
  handle:respond({ [":status"] = "400" }, field .. ": " .. refusal.why)
end

local function is_grpc(kind)
  return kind == "application/grpc" or kind and find(kind, "^application/grpc%+")
end

-- Answers with an entry of REFUSALS. Envoy would make it UNKNOWN or INTERNAL over gRPC and gRPC-web,
-- so the trailers are made here.
local function turn_away(handle, refusal)
  if not is_grpc(handle:headers():get("content-type")) then
    return handle:respond({ [":status"] = refusal.http_status }, refusal.message)
  end
  handle:respond({
    [":status"] = "200",
    ["content-type"] = "application/grpc",
    ["grpc-status"] = refusal.grpc_status,
    ["grpc-message"] = refusal.message,
    ["grpc-status-details-bin"] = refusal.details,
  }, "")
end

-- Returns the entry of REFUSALS for headers that no call may have. Envoy's own limits reset a stream
-- of HTTP/2 without a word.
local function refusal_of(headers)
  local size = 0
  for name, text in pairs(headers) do
    size = size + #name + #text
    if find(name, "_", 1, true) then
      return REFUSALS.underscore
    end
  end
  return size > MOST_HEADER_BYTES and REFUSALS.large_headers or nil
end

function envoy_on_request(handle)
  local headers = handle:headers()
  local method, kind = headers:get(":method"), headers:get("content-type")
  local refusal = refusal_of(headers)
  if refusal then
    return turn_away(handle, refusal)
  end
  -- What the transcoder takes for gRPC and passes by.
  if is_grpc(kind) then
    -- The services reset such a stream, which would be tried again.
    if method ~= "POST" or headers:get("te") ~= "trailers" then
      turn_away(handle, REFUSALS.not_grpc)
    end
    return
  end
  local path, query = match(headers:get(":path"), "^([^?]*)%??(.*)$")
  local routes, values = routes_of(path)
  local route = routes[method == "HEAD" and "GET" or method]
  if not route then
    local allowed = names_of(routes)
    return handle:respond(allowed == "" and { [":status"] = "404" } or { [":status"] = "405", allow = allowed }, "")
  end
  local body = handle:body()
  local text = body and body:length() > 0 and body:getBytes(0, body:length()) or nil
  -- Pages of any origin can send the others, without being asked whether they may.
  if text and not find(string.lower(kind or ""), "^application/json%s*%f[;%z]") then
    return handle:respond({ [":status"] = "415" }, "the content-type of the body must be application/json")
  end
  local is_right, refused = pcall(check, route, values, query, text)
  if not is_right and type(refused) == "table" then
    return answer(handle, refused)
  end
  if not is_right then
    -- Envoy would let a call pass whose script fails.
    handle:logErr("requests.lua: " .. tostring(refused))
    return handle:respond({ [":status"] = "500" }, "the gateway could not read the call")
  end
  if method == "HEAD" then
    -- The contracts have no HEAD.
    headers:replace(":method", "GET")
    handle:streamInfo():dynamicMetadata():set("kith.head", "is_head", true)
  end
end

-- Leaves out the body of an answer to HEAD.
function envoy_on_response(handle)
  if not handle:streamInfo():dynamicMetadata():get("kith.head") then
    return
  end
  for chunk in handle:bodyChunks() do
    chunk:setBytes("")
  end
end
