// SPDX-License-Identifier: Apache-2.0
//! What the server does in one go. Rows that scripts look at beside those among `KEYS` lie on
//! the same server: these are not for clusters.

/// Compares what an attempt looked at, and changes nothing.
///
/// - `KEYS`: what is looked at.
/// - `ARGV`: for each of them what must hold and a value: `absent`; `same` value; `row` is there,
///   and is given back; `type` or nothing; `names` n:prefix, that many rows.
/// - Gives `{i}` for the first that does not hold, else `{0, seconds, microseconds, rows}`.
pub(crate) const CHECK: &str = r"
local rows = {}
for i = 1, #KEYS do
  local key, what, value = KEYS[i], ARGV[2 * i - 1], ARGV[2 * i]
  if what == 'absent' then
    if redis.call('EXISTS', key) == 1 then return {i} end
  elseif what == 'same' then
    if redis.call('GET', key) ~= value then return {i} end
  elseif what == 'row' then
    local row = redis.call('GET', key)
    if not row then return {i} end
    rows[#rows + 1] = row
  elseif what == 'type' then
    local kind = redis.call('TYPE', key)['ok']
    if kind ~= 'none' and kind ~= value then
      return redis.error_reply('WRONGTYPE a key that should hold a ' .. value .. ' holds a ' .. kind)
    end
  else
    local n, prefix = string.match(value, '^(%d+):(.*)$')
    n = tonumber(n)
    if redis.call('ZCARD', key) ~= n then
      local there = 0
      for _, name in ipairs(redis.call('ZRANGE', key, 0, -1)) do
        if redis.call('EXISTS', prefix .. name) == 1 then there = there + 1 end
        if there > n then return {i} end
      end
      if there ~= n then return {i} end
    end
  end
end
local now = redis.call('TIME')
return {0, now[1], now[2], rows}
";

/// Lists rows whose names lie in a sorted set, and takes out names whose rows have expired.
///
/// - `KEYS`: the names.
/// - `ARGV`: the first and the last name, as `ZRANGEBYLEX` has them; how many; what the keys of
///   the rows begin with; how many bytes.
/// - Gives whether there may be more, from where, and then names and rows by turns.
pub(crate) const LIST: &str = r"
local from, left, bytes = ARGV[1], tonumber(ARGV[3]), tonumber(ARGV[5])
local out, gone = {0, ''}, {}
while left > 0 do
  local names = redis.call('ZRANGEBYLEX', KEYS[1], from, ARGV[2], 'LIMIT', 0, left)
  local wanted = left
  for _, name in ipairs(names) do
    from = '(' .. name
    local row = redis.call('GET', ARGV[4] .. name)
    if row then
      out[#out + 1] = name
      out[#out + 1] = row
      left = left - 1
      bytes = bytes - #row
      if bytes <= 0 then out[1] = 1; left = 0; break end
    else
      gone[#gone + 1] = name
    end
  end
  if #names < wanted or #gone >= 1000 then
    if #names == wanted then out[1] = 1; end
    break
  end
end
out[2] = from
for _, name in ipairs(gone) do redis.pcall('ZREM', KEYS[1], name) end
return out
";

/// Says what became of an attempt and forbids one that has not come yet.
///
/// - `KEYS`: its ticket.
/// - `ARGV`: how long the answer is kept, in seconds.
/// - Gives `1` when it was made, `0` when it was not and will not be.
pub(crate) const SETTLE: &str = r"
local what = redis.call('GET', KEYS[1])
if not what then
  what = '0'
  redis.call('SET', KEYS[1], what, 'EX', ARGV[1])
end
return what
";

/// Counts rows whose names lie in a sorted set.
///
/// - `KEYS`: the names.
/// - `ARGV`: what the keys of the rows begin with.
pub(crate) const COUNT: &str = r"
local n = 0
for _, name in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  if redis.call('EXISTS', ARGV[1] .. name) == 1 then n = n + 1 end
end
return n
";
