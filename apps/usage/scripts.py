"""What Redis does in one step: reserve, settle, and restore what was lost. One Redis holds it all; a cluster does not
know keys that are put together inside a script.

A tenant's counters belong to a generation, named by the moment (Redis' TIME) since when they are complete. Where there
is none, because Redis has lost it, other limits hold now, or something did not add up, the next question begins one,
and each counter is rebuilt from the ledger before it is believed. The prefix is of the tenant and its limits' version.

    {prefix}:since                    the generation
    {prefix}:{since}:open             hash: reservation -> what it has charged
    {prefix}:{since}:{kind}:{…}       a counter (w), a minute's bucket (g), the turns at once (c)
    quota:open                        sorted set: all tenants' reservations, by their moment
    quota:refused                     sorted set: windows' counters that refused a question, by the last moment
"""

from __future__ import annotations

from apps.edge.shared_state import Script

OPEN = "quota:open"
REFUSED = "quota:refused"
MOST_REFUSED = 10_000  # of which it is remembered
DAY = 86_400  # seconds that what is left of a generation is kept

_COMMON = """
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000
local prefix, id = ARGV[1], ARGV[2]
local since = redis.call('GET', prefix .. ':since')
local function whole(n) return string.format('%.0f', n) end
local function moment(n) return string.format('%.6f', n) end
"""

# ARGV: prefix, reservation, tenant, then for each limit: kind, name, amount, burst, asked, start, end, hard.
# Answers: lost | clock, now | missing, index... | no, now, index, left, wait, standing | ok, when it was reserved,
# standing. The standing is a line with two numbers for each limit: what is left, and in how many seconds all of it is.
# A limit that is not hard never says no. The client sends again what it got no answer to: it is reserved once, and no
# standing told. Without a reservation it only looks, and changes nothing: free where it does not say no.
RESERVE = Script(
    _COMMON
    + """
if not since then return {'lost'} end
local open = prefix .. ':' .. since .. ':open'
if redis.call('HEXISTS', open, id) == 1 then
    return {'ok', redis.call('ZSCORE', 'quota:open', ARGV[3] .. '|' .. id) or moment(now)}
end
local limits, missing, no = {}, {}, nil
for at = 4, #ARGV, 8 do
    local limit = {
        kind = ARGV[at], name = ARGV[at + 1], key = prefix .. ':' .. since .. ':' .. ARGV[at] .. ':' .. ARGV[at + 1],
        amount = tonumber(ARGV[at + 2]), burst = tonumber(ARGV[at + 3]), asked = tonumber(ARGV[at + 4]),
        ends = tonumber(ARGV[at + 6]), metric = string.match(ARGV[at + 1], '|(%a+)'),
    }
    local starts, index = tonumber(ARGV[at + 5]), #limits + 1
    local wait
    if limit.kind == 'w' then
        if now < starts or now >= limit.ends then return {'clock', moment(now)} end
        limit.used = tonumber(redis.call('GET', limit.key))
        if not limit.used then
            if starts < tonumber(since) then missing[#missing + 1] = index end
            limit.used = 0
        end
        limit.left, limit.resets = limit.amount - limit.used, limit.ends
        if limit.asked > limit.left then wait = limit.ends - now end
    elseif limit.kind == 'g' then
        limit.every = 60 / limit.amount
        limit.resets = math.max(tonumber(redis.call('GET', limit.key) or now), now)
        limit.left = math.floor(limit.burst - (limit.resets - now) / limit.every + 0.000001)
        if limit.asked > limit.burst then
            wait = -1
        elseif limit.asked > limit.left then
            wait = limit.resets + (limit.asked - limit.burst) * limit.every - now
        end
    else
        limit.left, limit.resets = limit.amount - redis.call('ZCARD', limit.key), now
        if limit.asked > limit.left then wait = 0 end
    end
    if wait and ARGV[at + 7] == '1' and (not no or no.wait >= 0 and (wait < 0 or wait > no.wait)) then
        no = {index = index, left = limit.left, wait = wait}
    end
    limits[index] = limit
end
if #missing > 0 then return {'missing', unpack(missing)} end
local function standing()
    local told = {}
    for index, limit in ipairs(limits) do
        told[index] = whole(limit.left) .. ' ' .. whole(math.ceil(limit.resets - now))
    end
    return table.concat(told, ' ')
end
if no then
    -- A question that asks for more than there ever is says nothing of how much was used.
    local reached = limits[no.index]
    if reached.kind == 'w' and reached.asked <= reached.amount then
        redis.call('ZADD', 'quota:refused', moment(now), ARGV[3] .. '|' .. reached.name)
        redis.call('ZREMRANGEBYRANK', 'quota:refused', 0, """
    + str(-MOST_REFUSED - 1)
    + """)
    end
    return {'no', moment(now), no.index, whole(math.max(no.left, 0)), moment(no.wait), standing()}
end
if id == '' then return {'free'} end
local charged = {}
for _, limit in ipairs(limits) do
    limit.left = limit.left - limit.asked
    if limit.kind == 'w' then
        redis.call('SET', limit.key, whole(limit.used + limit.asked), 'EXAT', whole(limit.ends + 3600))
        charged[#charged + 1] = {'w', limit.key, limit.metric, limit.asked}
    elseif limit.kind == 'g' then
        limit.resets = limit.resets + limit.asked * limit.every
        redis.call('SET', limit.key, moment(limit.resets), 'PX', whole(math.max((limit.resets - now) * 1000, 1)))
        charged[#charged + 1] = {'g', limit.key, limit.metric, limit.asked, limit.every}
    else
        redis.call('ZADD', limit.key, moment(now), id)
        redis.call('EXPIRE', limit.key, """
    + str(DAY)
    + """)
        charged[#charged + 1] = {'c', limit.key}
    end
end
redis.call('HSET', open, id, cjson.encode(charged))
redis.call('EXPIRE', open, """
    + str(DAY)
    + """)
redis.call('ZADD', 'quota:open', moment(now), ARGV[3] .. '|' .. id)
return {'ok', moment(now), standing()}
"""
)

# ARGV: prefix, reservation, tenant, requests, tokens, cost; what was used. Only the first one changes anything.
# A reservation that a young generation does not know was lost with the one before it, so the counters do not count it:
# then the generation is dropped.
SETTLE = Script(
    _COMMON
    + """
redis.call('ZREM', 'quota:open', ARGV[3] .. '|' .. id)
if not since then return 'lost' end
local open = prefix .. ':' .. since .. ':open'
local kept = redis.call('HGET', open, id)
if not kept then
    if now - tonumber(since) < 600 then
        redis.call('DEL', prefix .. ':since')
        return 'dropped'
    end
    return 'unknown'
end
redis.call('HDEL', open, id)
local used = {requests = tonumber(ARGV[4]), tokens = tonumber(ARGV[5]), cost = tonumber(ARGV[6])}
for _, charge in ipairs(cjson.decode(kept)) do
    local kind, key = charge[1], charge[2]
    if kind == 'c' then
        redis.call('ZREM', key, id)
    else
        local more = used[charge[3]] - charge[4]
        local value = more ~= 0 and redis.call('GET', key)
        if value and kind == 'w' then
            redis.call('SET', key, whole(tonumber(value) + more), 'KEEPTTL')
        elseif more ~= 0 and kind == 'g' then
            local earned = tonumber(value or now) + more * charge[5]
            if earned > now then
                redis.call('SET', key, moment(earned), 'PX', whole((earned - now) * 1000))
            else
                redis.call('DEL', key)
            end
        end
    end
end
return 'settled'
"""
)

# Begins a generation where there is none; gives the one that is.
BEGIN = Script("""
local time = redis.call('TIME')
local now = string.format('%.6f', tonumber(time[1]) + tonumber(time[2]) / 1000000)
redis.call('SET', ARGV[1] .. ':since', now, 'NX')
return redis.call('GET', ARGV[1] .. ':since')
""")

# ARGV: prefix, generation, tenant, how many counters, their (key, value, expiry)…, then (reservation, moment,
# charges)… of those that the values count. Answers again where the generation is another one by now. A counter that is
# there already stays. A reservation that was settled since the ledger was read is the sweep's to settle once more.
RESTORE = Script("""
local prefix, since, tenant = ARGV[1], ARGV[2], ARGV[3]
if redis.call('GET', prefix .. ':since') ~= since then return 'again' end
local open = prefix .. ':' .. since .. ':open'
local counters = tonumber(ARGV[4])
local first = 5 + counters * 3
local fresh = {}
for at = 5, first - 1, 3 do
    if redis.call('SET', ARGV[at], ARGV[at + 1], 'NX', 'EXAT', ARGV[at + 2]) then fresh[ARGV[at]] = true end
end
for at = first, #ARGV, 3 do
    local id = ARGV[at]
    local kept = redis.call('HGET', open, id)
    local charges, known = kept and cjson.decode(kept) or {}, {}
    for _, charge in ipairs(charges) do known[charge[2]] = true end
    for _, charge in ipairs(cjson.decode(ARGV[at + 2])) do
        if charge[1] == 'c' then
            redis.call('ZADD', charge[2], ARGV[at + 1], id)
            redis.call('EXPIRE', charge[2], 86400)
            if not known[charge[2]] then charges[#charges + 1] = charge end
        elseif fresh[charge[2]] and not known[charge[2]] then
            charges[#charges + 1] = charge
        end
    end
    redis.call('HSET', open, id, cjson.encode(charges))
    redis.call('ZADD', 'quota:open', 'NX', ARGV[at + 1], tenant .. '|' .. id)
end
redis.call('EXPIRE', open, 86400)
return 'restored'
""")
