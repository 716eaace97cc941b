// SPDX-License-Identifier: Apache-2.0
//! What one server does in one go: every key that a script looks at is among its `KEYS` and in
//! one slot.

/// Compares a row and writes it, unless that was forbidden or done.
///
/// It may have been sent before, on a connection that broke. Where the row is another one, that
/// is forbidden from then on: an earlier one that comes later finds its number and does nothing.
///
/// - `KEYS`: the row; the lane.
/// - `ARGV`: number on the lane; `1` when a row must be there, and which; `0` to remove it, `1` to
///   set it, `2` to leave it; the value; seconds until it goes, 0 for never; seconds that the
///   lane is kept.
/// - Gives `1` when it was written, `0` when the row is another one, `2` when it was forbidden.
pub(super) const WRITE: &str = r"
local lane = redis.call('GET', KEYS[2])
if lane then
  local last = string.sub(lane, 2)
  if last == ARGV[1] and string.sub(lane, 1, 1) == 'm' then return 1 end
  if last >= ARGV[1] then return 2 end
end
local there = redis.call('GET', KEYS[1])
if ARGV[2] == '1' then
  if there ~= ARGV[3] then
    redis.call('SET', KEYS[2], 'v' .. ARGV[1], 'EX', ARGV[7])
    return 0
  end
elseif there then
  redis.call('SET', KEYS[2], 'v' .. ARGV[1], 'EX', ARGV[7])
  return 0
end
if ARGV[4] == '0' then
  redis.call('DEL', KEYS[1])
elseif ARGV[4] == '1' then
  if ARGV[6] == '0' then
    redis.call('SET', KEYS[1], ARGV[5])
  else
    redis.call('SET', KEYS[1], ARGV[5], 'EX', ARGV[6])
  end
end
redis.call('SET', KEYS[2], 'm' .. ARGV[1], 'EX', ARGV[7])
return 1
";

/// Says whether a row was written, and forbids it when it was not.
///
/// - `KEYS`: the lane.
/// - `ARGV`: number on the lane; seconds that the lane is kept.
/// - Gives `1` when it was written, `0` when it was not and will not be.
pub(super) const SETTLE: &str = r"
local lane = redis.call('GET', KEYS[1])
if lane and string.sub(lane, 2) >= ARGV[1] then
  if lane == 'm' .. ARGV[1] then return 1 end
  return 0
end
redis.call('SET', KEYS[1], 'v' .. ARGV[1], 'EX', ARGV[2])
return 0
";

/// Raises the number of a filer.
///
/// - `KEYS`: the numbers of all.
/// - `ARGV`: the filer; its number, of as many digits as every other.
pub(super) const RAISE: &str = r"
local there = redis.call('HGET', KEYS[1], ARGV[1])
if not there or there < ARGV[2] then redis.call('HSET', KEYS[1], ARGV[1], ARGV[2]) end
return 1
";

/// Notes names that are in doubt: from now on they are looked at in every listing.
///
/// - `KEYS`: names; doubts.
/// - `ARGV`: what names must lie in, where there are any; then the doubts.
pub(super) const DOUBT: &str = r"
local kind = redis.call('TYPE', KEYS[1])['ok']
if kind ~= 'none' and kind ~= ARGV[1] then
  return redis.error_reply('WRONGTYPE a key that should hold a ' .. ARGV[1] .. ' holds a ' .. kind)
end
local now = redis.call('TIME')[1]
for i = 2, #ARGV do redis.call('HSET', KEYS[2], ARGV[i], now) end
return 1
";

/// Takes names out of a sorted set, and notes that they are in doubt.
///
/// - `KEYS`: names; doubts.
/// - `ARGV`: a name and its doubt, by turns.
pub(super) const TAKE_OUT: &str = r"
local now = redis.call('TIME')[1]
for i = 1, #ARGV, 2 do
  redis.call('ZREM', KEYS[1], ARGV[i])
  redis.call('HSET', KEYS[2], ARGV[i + 1], now)
end
return 1
";

/// Ends doubts.
///
/// - `KEYS`: names; doubts.
/// - `ARGV`: by turns a doubt, and `1` and the name when that is to be in the sorted set, or `0`.
pub(super) const END: &str = r"
for i = 1, #ARGV, 3 do
  if ARGV[i + 1] == '1' then redis.call('ZADD', KEYS[1], 'NX', 0, ARGV[i + 2]) end
  redis.call('HDEL', KEYS[2], ARGV[i])
end
return 1
";

/// Lists names of a sorted set, and all doubts.
///
/// - `KEYS`: names; doubts.
/// - `ARGV`: the first and the last name, as `ZRANGEBYLEX` has them; how many.
/// - Gives the names, the doubts and since when by turns, and the time.
pub(super) const NAMES: &str = r"
local names = redis.call('ZRANGEBYLEX', KEYS[1], ARGV[1], ARGV[2], 'LIMIT', 0, ARGV[3])
return {names, redis.call('HGETALL', KEYS[2]), redis.call('TIME')[1]}
";

/// Gives all doubts and since when by turns, and the time.
///
/// - `KEYS`: doubts.
pub(super) const DOUBTS: &str = r"
return {redis.call('HGETALL', KEYS[1]), redis.call('TIME')[1]}
";

/// Gives up a lock, if it is still this one.
///
/// - `KEYS`: the lock.
/// - `ARGV`: what it holds.
pub(super) const UNLOCK: &str = r"
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
";

/// Begins a change of a list: gives it a number above those of all changes that began before,
/// also where that of the last one was forgotten.
///
/// - `KEYS`: the fence of the root.
/// - `ARGV`: seconds that it is kept.
pub(super) const BEGIN: &str = r"
local now = redis.call('TIME')
local n = string.format('%020.0f', now[1] * 1000000 + now[2])
local last = redis.call('GET', KEYS[1])
if last and last >= n then n = string.format('%020.0f', last + 1) end
redis.call('SET', KEYS[1], n, 'EX', ARGV[1])
return n
";

/// Writes a root or an element if it is as it was read; the root only while no later change has
/// begun. Asked again, it says the same.
///
/// - `KEYS`: what is written; for the root, its fence.
/// - `ARGV`: what must be there, empty for nothing; what is to be there; for the root, the number
///   of the change.
/// - Gives `1` when it is there, `-1` when it was not written.
pub(super) const SWAP: &str = r"
if KEYS[2] and redis.call('GET', KEYS[2]) ~= ARGV[3] then return -1 end
local there = redis.call('GET', KEYS[1]) or ''
if there == ARGV[2] then return 1 end
if there ~= ARGV[1] then return -1 end
if ARGV[2] == '' then
  redis.call('DEL', KEYS[1])
else
  redis.call('SET', KEYS[1], ARGV[2])
end
return 1
";

/// Puts names into a batch or takes them out, unless a later change has been there.
///
/// - `KEYS`: the batch; its fence.
/// - `ARGV`: the number of the change; seconds that the fence is kept; `1` to put them in, `0` to
///   take them out; the names.
/// - Gives how many names are there afterwards, `-1` when a later change has been there.
pub(super) const BATCH: &str = r"
local last = redis.call('GET', KEYS[2])
if last and last > ARGV[1] then return -1 end
redis.call('SET', KEYS[2], ARGV[1], 'EX', ARGV[2])
for i = 4, #ARGV do
  if ARGV[3] == '1' then
    redis.call('ZADD', KEYS[1], 'NX', 0, ARGV[i])
  else
    redis.call('ZREM', KEYS[1], ARGV[i])
  end
end
return redis.call('ZCARD', KEYS[1])
";
