-- Refuses what the transcoder would drop or would let count before the path: parameters and fields
-- that the call does not know, that are given twice, or that say what the path says. Gives the call
-- what HTTP has elsewhere than the contracts: the etag of If-Match, and the mask of an update.
--
-- The tables in capital letters are put before this file: shared/cli/http_rules.py makes them of the
-- contracts. The transcoder takes more than JSON, such as names without quotes. What is
-- not JSON is refused here, or it could see a field where this file sees none.

local find, match, sub, byte, char = string.find, string.match, string.sub, string.byte, string.char
local gmatch, gsub, lower, upper = string.gmatch, string.gsub, string.lower, string.upper

local MOST_STEPS = 100000 -- far more than any call takes; it bounds the time
local MOST_HEADER_BYTES = 8192 -- with what is added on the way, less than the services take
local MOST_SHOWN = 100 -- characters of a name that is quoted in an error
local FIRST = { -- what a value begins with
  flag = { characters = "tf", named = "true or false" },
  number = { characters = '"-0123456789', named = "a number" },
  int32 = { characters = '"-0123456789', named = "a number" },
  int64 = { characters = '"-0123456789', named = "a number" },
  enum = { characters = '"-0123456789', named = "a name or a number" },
  text = { characters = '"', named = "a string" },
  time = { characters = '"', named = "a string" },
  message = { characters = "{", named = "an object" },
}
-- What the names of a map must be, as patterns. A number and a flag have one spelling here, so that
-- two names are never the same value; the transcoder takes more.
local NAMES = {
  flag = { patterns = { "^true$", "^false$" }, named = "true or false" },
  int32 = { patterns = { "^0$", "^-?[1-9]%d*$" }, named = "a whole number" },
  int64 = { patterns = { "^0$", "^-?[1-9]%d*$" }, named = "a whole number" },
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
  local decoded = gsub(text, "%%(%x%x)", function(digits)
    return char(tonumber(digits, 16))
  end)
  return decoded
end

local function refuse_if(field, why)
  if why then
    refuse(field, why)
  end
end

-- Values ----------------------------------------------------------------------------------------
-- What the transcoder would refuse without naming the field.

local function is_number(text)
  local rest = match(text, "^-?0(%D?.*)$") or match(text, "^-?[1-9]%d*(%D?.*)$")
  rest = rest and (match(rest, "^%.%d+(.*)$") or rest)
  return rest == "" or rest and find(rest, "^[eE][+-]?%d+$")
end

-- Whether a text is a whole number of so many digits as `most` at most, and not beyond it. A number
-- of JSON may be written as 2.0 or 2e0. In a string, in the path and in the query it has digits alone.
local function is_whole(text, most, is_string)
  local sign, digits = match(text, "^(-?)(%d+)$")
  if not digits then
    local number = not is_string and is_number(text) and tonumber(text)
    return number and number == math.floor(number) and math.abs(number) < tonumber(most)
  end
  digits = match(digits, "^0*(.*)$")
  -- The least one is one further from zero than the greatest.
  local bound = sign == "-" and sub(most, 1, -2) .. sub(most, -1) + 1 or most
  return #digits < #bound or #digits == #bound and digits <= bound
end

local DAYS = { 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 }

local function is_time(text)
  local pattern = "^(%d%d%d%d)-(%d%d)-(%d%d)T(%d%d):(%d%d):(%d%d)(.*)$"
  local year, month, day, hour, minute, second, rest = match(text, pattern)
  rest = rest and (match(rest, "^%.%d+(.*)$") or rest)
  local is_zone = rest == "Z" or rest and find(rest, "^[+-]%d%d:%d%d$")
  local days = DAYS[tonumber(month)]
  return is_zone and days and tonumber(year) > 0 and tonumber(day) > 0 and tonumber(day) <= days
    and tonumber(hour) < 24 and tonumber(minute) < 60 and tonumber(second) < 60
end

local INT32, INT64 = "2147483647", "9223372036854775807"
local RIGHT = {
  flag = function(text)
    return text == "true" or text == "false"
  end,
  number = is_number,
  int32 = function(text, is_string)
    return is_whole(text, INT32, is_string)
  end,
  int64 = function(text, is_string)
    return is_whole(text, INT64, is_string)
  end,
  time = is_time,
}
local WRONG = {
  flag = "must be true or false",
  number = "must be a number",
  int32 = "must be a whole number of 32 bits",
  int64 = "must be a whole number of 64 bits",
  time = "must be a time as in RFC 3339, such as 2026-07-09T12:00:00Z",
}

-- Returns what is wrong with the value of a field, if anything is. A number of JSON that an enum does
-- not have is the service's to refuse.
local function fault(field, text, is_string)
  if field.kind == "enum" then
    if ENUMS[field.enum][upper(text)] or not is_string and is_whole(text, INT32) then
      return nil
    end
    return "must be a value of " .. match(field.enum, "[^.]*$")
  end
  local is_right = RIGHT[field.kind]
  return is_right and not is_right(text, is_string) and WRONG[field.kind] or nil
end

-- The path --------------------------------------------------------------------------------------

-- Returns the calls that have a path, by their methods, and the texts of its variables.
local function routes_of(path)
  local rest, verb = match(path, "^(.*):([^/:]*)$")
  local node, values = ROUTES, {}
  for segment in gmatch(rest or path, "[^/]+") do
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

local function camel_case(name)
  return (gsub(name, "_(%l)", upper))
end

-- Returns what the path says, as a tree by the names of fields.
local function said_by_path(route, values)
  local said = {}
  for number, way in ipairs(route.variables) do
    local inner, fields = said, MESSAGES[route.message]
    for step = 1, #way - 1 do
      inner[way[step]] = inner[way[step]] or {}
      inner, fields = inner[way[step]], MESSAGES[fields[way[step]].message]
    end
    local name = way[#way]
    refuse_if(camel_case(name), fault(fields[name], values[number], true))
    inner[name] = values[number]
  end
  return said
end

-- Notes that the caller wrote a field as the contracts have it, where JSON has another name for it.
local function note_spelling(asked, field, name)
  if name == field.name and find(name, "_", 1, true) then
    asked.written = asked.written or {}
    asked.written[name] = true
  end
end

-- The query -------------------------------------------------------------------------------------
-- `asked` is one call: its route, what its path says, and what has been found in it so far.

-- Returns the field that a parameter is, and its whole name.
local function check_parameter(asked, seen, name)
  local route, said = asked.route, asked.said
  local fields, inner, way, field = MESSAGES[route.message], said, {}, nil
  for part in gmatch(name .. ".", "([^.]*)%.") do
    field = fields and fields[part]
    if not field then
      refuse(name, "is not a parameter of this call")
    end
    note_spelling(asked, field, part)
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
  return field
end

local function check_query(asked, query)
  local seen = {}
  for parameter in gmatch(query, "[^&]+") do
    local name, value = match(parameter, "^([^=]*)=(.*)$")
    local decoded = unescaped((gsub(name or parameter, "+", " ")))
    local field = check_parameter(asked, seen, decoded)
    if not value then
      refuse(decoded, "has no value")
    end
    refuse_if(decoded, fault(field, unescaped((gsub(value, "+", " "))), true))
  end
  asked.has_mask = seen.update_mask
  asked.has_etag = seen.etag
end

-- The body --------------------------------------------------------------------------------------
-- `scan` is one body: its text, the steps that reading it has taken, the way to where it is, of names
-- and of numbers in lists, and where each of its own fields is.

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
    note_spelling(scan.asked, field, name)
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
  local why = fault(field, meaning(scan, text), first == '"')
  if why then
    refuse_here(scan, why)
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
    local start = stop
    if map then
      -- In a map null stands for no default that callers could know.
      stop = value(scan, field, nil, first, stop)
    else
      stop = given(scan, field, said and said[common], first, stop)
    end
    if depth == 1 then
      scan.given[common] = { start, stop }
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

local function check_body(asked, text)
  local route, said = asked.route, asked.said
  if not route.body then
    refuse(nil, "this call takes no body")
  end
  local kind = { message = route.message }
  if route.body ~= "*" then
    kind = MESSAGES[route.message][route.body]
    said = said[kind.name]
  end
  local scan = { asked = asked, text = text, steps = 0, way = {}, depth = 0, given = {} }
  local first, at = next_character(scan, 1)
  if first ~= "{" then
    malformed(at)
  end
  local stop = object(scan, kind, said, at)
  local rest = find(text, "[^ \t\r\n]", stop + 1)
  if rest then
    malformed(rest)
  end
  asked.given, asked.first = scan.given, at
end

-- What HTTP has elsewhere -----------------------------------------------------------------------

-- Returns the etag that a header has, as the contracts have it. What is after a dot is of an answer,
-- not of the resource: see answers.lua.
local function etag_in(header)
  local opaque = match(header, '^%s*W/"([^"\\]*)"%s*$') or match(header, '^%s*"([^"\\]*)"%s*$')
  if not opaque then
    refuse("If-Match", "must be one ETag in quotes, or *")
  end
  return match(opaque, "^[^.]*")
end

-- Puts the etag of If-Match where the call takes it.
local function add_etag(asked, header, text)
  local route = asked.route
  if not route.etag then
    refuse("If-Match", "is not a condition of this call")
  end
  if match(header, "^%s*%*%s*$") then
    return text
  end
  local etag = etag_in(header)
  if route.etag == "query" then
    if asked.has_etag then
      refuse("If-Match", "must be left out if the call has an etag")
    end
    asked.added = 'etag=%22' .. gsub(etag, "[^%w_-]", function(character)
      return string.format("%%%02X", byte(character))
    end) .. "%22"
    return text
  end
  local escaped_etag = '"\\"' .. etag .. '\\""'
  text = text or "{}"
  local own = asked.given and asked.given.etag
  if own then
    if sub(text, own[1], own[2]) ~= escaped_etag then
      refuse("If-Match", "must equal the etag in the body")
    end
    return text
  end
  local first = asked.first or 1
  local comma = next(asked.given or {}) and "," or ""
  return sub(text, 1, first) .. '"etag":' .. escaped_etag .. comma .. sub(text, first + 1)
end

-- Adds the mask of an update that has none: the fields in the body that can be changed.
local function add_mask(asked)
  local names = {}
  for name in pairs(asked.given or {}) do
    if asked.route.mask[name] then
      names[#names + 1] = name
    end
  end
  table.sort(names)
  asked.added = "update_mask=" .. table.concat(names, ",")
end

-- The call --------------------------------------------------------------------------------------

-- Returns the text of the body that the call is to have.
local function check(asked, values, query, text, conditions)
  asked.said = said_by_path(asked.route, values)
  if query then
    check_query(asked, query)
  end
  if text then
    check_body(asked, text)
  end
  if conditions.match then
    text = add_etag(asked, conditions.match, text)
  end
  if conditions.none_match and not conditions.is_read then
    refuse("If-None-Match", "is not a condition of this call")
  end
  if asked.route.mask and not asked.has_mask then
    add_mask(asked)
  end
  return text
end

-- What a caller wrote, for an error: short, and of printable ASCII, because it may not be UTF-8.
local function shown(name)
  return (gsub(sub(name, 1, MOST_SHOWN), "[^ -~]", "?"))
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
-- of HTTP/2 without a word. With names that gRPC does not take, a service closes the connection with
-- all calls on it.
local function refusal_of(headers)
  local size = 0
  for name, text in pairs(headers) do
    size = size + #name + #text
    if find(name, "[^%l%d.-]") and not find(name, "^:") then
      return REFUSALS.header_name
    end
  end
  -- So Envoy joins the values of several Host headers (RFC 9112, 3.2).
  if find(headers:get(":authority") or "", ",", 1, true) then
    return REFUSALS.hosts
  end
  local timeout = headers:get("grpc-timeout")
  if timeout and not (find(timeout, "^%d+[HMSmun]$") and #timeout <= 9) then
    return REFUSALS.timeout
  end
  return size > MOST_HEADER_BYTES and REFUSALS.large_headers or nil
end

-- Whether a call over HTTP has a header that the services would read as one of gRPC's own.
local function has_grpc_headers(headers)
  for name in pairs(headers) do
    if find(name, "-bin$") then
      return true
    end
  end
  return headers:get("grpc-encoding") ~= nil or headers:get("grpc-accept-encoding") ~= nil
end

-- Whether an answer may be JSON, by the most specific of the ranges that name it.
local function accepts_json(accept)
  if not find(accept, "%S") then
    return true
  end
  local wanted = {}
  for range in gmatch(lower(accept), "[^,]+") do
    wanted[match(range, "^%s*([^;%s]*)")] = tonumber(match(range, ";%s*q=([%d.]+)") or 1)
  end
  local quality = wanted["application/json"] or wanted["application/*"] or wanted["*/*"] or 0
  return quality > 0
end

-- Returns what is wrong with how a body is sent, if anything is.
local function refusal_of_body(coding, kind)
  if coding and lower(coding) ~= "identity" then
    return "the body must not be compressed"
  end
  -- Pages of any origin can send the others, without being asked whether they may.
  if not find(lower(kind or ""), "^application/json%s*%f[;%z]") then
    return "the content-type of the body must be application/json"
  end
end

-- Keeps for answers.lua what it has to know of the call.
local function remember(handle, asked, conditions, is_head)
  local metadata = handle:streamInfo():dynamicMetadata()
  metadata:set("kith.call", "name", asked.route.call)
  if asked.written then
    metadata:set("kith.call", "written", asked.written)
  end
  if conditions.match then
    metadata:set("kith.call", "is_conditional", true)
  end
  if conditions.none_match then
    metadata:set("kith.call", "none_match", conditions.none_match)
  end
  if is_head then
    metadata:set("kith.call", "is_head", true)
  end
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
  if has_grpc_headers(headers) then
    return turn_away(handle, REFUSALS.binary)
  end
  local path, query = match(headers:get(":path"), "^([^?]*)%??(.*)$")
  local routes, values = routes_of(path)
  local route = routes[method == "HEAD" and "GET" or method]
  if not route then
    local allowed = names_of(routes)
    return handle:respond(allowed == "" and { [":status"] = "404" } or { [":status"] = "405", allow = allowed }, "")
  end
  if not accepts_json(headers:get("accept") or "") then
    return handle:respond({ [":status"] = "406" }, "answers are application/json alone")
  end
  local conditions = {
    match = headers:get("if-match"),
    none_match = headers:get("if-none-match"),
    is_read = method == "GET" or method == "HEAD",
    coding = headers:get("content-encoding"),
  }
  local body = handle:body()
  local text = body and body:length() > 0 and body:getBytes(0, body:length()) or nil
  local why = text and refusal_of_body(conditions.coding, kind)
  if why then
    return handle:respond({ [":status"] = "415" }, why)
  end
  local asked = { route = route }
  local is_right, result = pcall(check, asked, values, query, text, conditions)
  remember(handle, asked, conditions, method == "HEAD")
  if not is_right and type(result) == "table" then
    return answer(handle, result)
  end
  if not is_right then
    -- Envoy would let a call pass whose script fails.
    handle:logErr("requests.lua: " .. tostring(result))
    return handle:respond({ [":status"] = "500" }, "the gateway could not read the call")
  end
  -- Those from before the body cannot be used after it.
  headers = handle:headers()
  if result ~= text then
    handle:body(true):setBytes(result)
    headers:replace("content-length", tostring(#result))
  end
  if asked.added then
    local joint = query == "" and "?" or "&"
    headers:replace(":path", path .. (query == "" and "" or "?" .. query) .. joint .. asked.added)
  end
  if method == "HEAD" then
    -- The contracts have no HEAD.
    headers:replace(":method", "GET")
  end
end
