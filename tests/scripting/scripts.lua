--- pcall-unknown
return redis.pcall("nosuch")
--- pcall-fields
local t=redis.pcall("set","a") local r={} for k,v in pairs(t) do r[#r+1]=k.."="..tostring(v) end table.sort(r) return r
--- pcall-wrongtype
redis.call("set","s",1) local t=redis.pcall("lpush","s",1) local r={} for k,v in pairs(t) do r[#r+1]=k.."="..tostring(v) end table.sort(r) return r
--- lua-pcall-of-call
local ok,e=pcall(redis.call,"lpush","s",1) return {tostring(ok),type(e),e}
--- call-error
return redis.call("lpush","s",1)
--- error-replies
return {redis.error_reply("My Err"),redis.error_reply("-My Err"),redis.error_reply("Oops"),redis.error_reply("-Oops"),redis.error_reply(""),redis.error_reply("a\r\nb c")}
--- error-reply-alone
return redis.error_reply("CODE text")
--- reply-arguments
return {redis.error_reply(1),redis.error_reply(),redis.status_reply(),redis.status_reply("a","b"),redis.status_reply("x\r\ny")}
--- err-table
return {err="foo bar"}
--- err-table-word
return {err="foo", line="7", source="x"}
--- err-table-dash
return {err="-foo bar"}
--- error-table
error({err="FOO bar"})
--- error-text
error("plain")
--- error-nil
error(nil)
--- error-number
error(12)
--- error-boolean
error(true)
--- error-tostring
error(setmetatable({},{__tostring=function() return "T" end}).x)
--- global-read
return x
--- global-write
x=1
--- rawset-global
rawset(_G,"x",1)
--- write-redis
redis.x=1
--- setmetatable-global
setmetatable(_G,{})
--- insert-redis
table.insert(redis,1)
--- read-redis
return tostring(redis.nosuch)
--- string-write
string.x=1
--- syntax-error
return 1
nonsense here
--- syntax-error-2
if then
--- loadstring-binary
local a,b=loadstring("\27Lua") return {tostring(a),b}
--- loadstring
return {loadstring("return 1+1")(), select(2,loadstring("x x")), select(2, loadstring("=","@name")), select(2, loadstring("=","=name"))}
--- load-function
local n=0 return load(function() n=n+1 return ({"return ","42"})[n] end)()
--- pcall-variants
return {pcall(error,{err="a b"}),{pcall(function() return 1,2,3 end)},{pcall(error)},{pcall(error,"x",0)},{pcall(load)}}
--- xpcall
return {xpcall(function() error("x") end, function(e) return "h:"..e end)}
--- unpack-limits
return {{pcall(unpack,{},1,2147483647)},{pcall(unpack,{},1,8001)},#{unpack({1,2,3},2)}, {unpack({1,2},0,3)}}
--- double-table
return {double=3.5}
--- special-tables
return {{double=1},{double=0/0},{double=1/0},{double=-1/0},{double=1e100},{map={}},{map={a=1}},{set={}},{set={a=true}},{big_number="123"},{big_number="1\r\n2"},{verbatim_string={string="s",format="txt"}},{verbatim_string={string="s"}},{verbatim_string="x"},{big_number=1},{double="x"}}
--- table-precedence
return {{err="a b",ok="c"},{ok="c",double=1},{double=1,map={}},{map={},set={}},{big_number="1",set={}},{big_number="1",verbatim_string={string="s",format="txt"}},{1,2,ok="x"},{1,err="y z"}}
--- booleans
return {true,false}
--- nil-in-table
return {1,2,nil,4}
--- truncation
return {3.99,-3.99,1e300,-1e300,0/0,1/0,9007199254740993,-0.0}
--- functions-in-table
return {function() end,1}
--- nested-self
local t={} t[1]=t return t
--- nested
local t={} for i=1,40 do t={t,i} end return t
--- empty
return {}
--- nothing

--- null-reply
return {redis.call("get","nokey"),tostring(redis.call("get","nokey"))}
--- status-conversion
local r=redis.call("set","k","v") return {type(r),r.ok,r}
--- numbers-in
redis.call("mset","f",3.3,"g",1e100,"h",12345678901234567890,"i",0/0,"j",1/0,"k",-0.0,"l",1e15,"m",123456789012345678,"n",0.1,"o",-1.5e-7,"p",4611686018427387904,"q",9223372036854775807) return redis.call("mget","f","g","h","i","j","k","l","m","n","o","p","q")
--- resp2-zset
return {redis.call("zadd","z",1.5,"m"),redis.call("zscore","z","m"),redis.call("zrange","z",0,-1,"withscores"),redis.call("hset","h","a",1),redis.call("hgetall","h"),redis.call("sadd","se","x"),redis.call("smembers","se")}
--- resp3-values
redis.setresp(3) local function show(v) if type(v)~="table" then return type(v)..":"..tostring(v) end local r={} for k,x in pairs(v) do r[#r+1]=tostring(k).."="..show(x) end table.sort(r) return "{"..table.concat(r,",").."}" end
redis.call("del","z","h","se") redis.call("zadd","z",1.5,"m") redis.call("hset","h","a",1) redis.call("sadd","se","x")
return {show(redis.call("zscore","z","m")),show(redis.call("hgetall","h")),show(redis.call("smembers","se")),show(redis.call("get","nokey")),show(redis.call("zrange","z",0,-1,"withscores")),show(redis.call("debug","protocol","bignum")),show(redis.call("debug","protocol","verbatim")),show(redis.call("debug","protocol","true")),show(redis.call("debug","protocol","double"))}
--- resp3-return
redis.setresp(3) return {redis.call("zscore","z","m"),redis.call("hgetall","h"),redis.call("smembers","se"),redis.call("get","nokey"),true,false}
--- setresp-errors
return {redis.pcall==nil, select(2,pcall(redis.setresp)), select(2,pcall(redis.setresp,4)), select(2,pcall(redis.setresp,"x"))}
--- api-errors
local function e(f,...) local ok,e=pcall(f,...) return e end
return {e(redis.log,1),e(redis.log,"a","b"),e(redis.log,9,"b"),e(redis.log,-1,"b"),e(redis.sha1hex),e(redis.set_repl),e(redis.set_repl,9),e(redis.call),e(redis.call,{}),redis.pcall({}),e(redis.acl_check_cmd),e(redis.acl_check_cmd,"nosuch"),e(redis.acl_check_cmd,"get","a")}
--- refused-commands
local r={} for _,c in ipairs{{"multi"},{"eval","return 1",0},{"subscribe","x"},{"config","get","port"},{"config"},{"config","nosuch"},{"client","id"},{"select","k","0"},{"get"},{"watch","a"},{"auth","x"},{"hello"},{"reset"},{"quit"},{"shutdown"},{"bgsave"},{"script","load","x"},{"wait",0,0}} do r[#r+1]=redis.pcall(unpack(c)) end return r
--- select-inside
redis.call("select",3) redis.call("set","in3","x") local a=redis.call("get","in3") redis.call("select",0) return {a,redis.call("get","in3"),redis.pcall("select",99)}
--- sha1
return {redis.sha1hex("a"),redis.sha1hex(""),redis.sha1hex(12)}
--- random
local r={} for i=1,20 do r[i]=tostring(math.random()) end return {r,math.random(100),math.random(5,10),math.random(2147483647)}
--- random-seed
math.randomseed(42) local a=math.random(1000000) math.randomseed(-1) return {a,math.random(1000000)}
--- random-errors
return {pcall(math.random,0),pcall(math.random,2,1),pcall(math.random,1,2,3),pcall(math.random,"x"),{pcall(math.randomseed)}}
--- math
return {tostring(math.pi),tostring(math.huge),tostring(math.fmod(7,3)),tostring(math.floor(-1.5)),tostring(math.pow(2,0.5)),tostring(math.log10(1000)),tostring(math.modf(3.7))}
--- tostring-numbers
return {tostring(1e15),tostring(123456789012345678),tostring(0.1),tostring(1/0),tostring(0/0),tostring(-0.0),tostring(1e14),tostring(2^53)}
--- string-library
return {("x"):rep(3),("%5.2f|%d|%s|%q|%x"):format(3.14159,42,"a","b\n",255),("hello"):sub(2,-2),("a,b,c"):gsub(",",";"),("abc"):byte(1,-1),string.char(72,105),("hello world"):find("o w"),("k=v"):match("(%w+)=(%w+)"),#string.dump(function() end)>0}
--- table-library
local t={3,1,2} table.sort(t) return {t,table.concat(t,","),table.getn(t),table.maxn({1,2,[10]=3}),table.remove(t),t}
--- versions
return {redis.REDIS_VERSION_NUM>=0x00070400,_VERSION,redis.LOG_DEBUG,redis.LOG_VERBOSE,redis.LOG_NOTICE,redis.LOG_WARNING,redis.REPL_ALL,redis.REPL_AOF,redis.REPL_SLAVE,redis.REPL_REPLICA,redis.REPL_NONE}
--- misc-api
return {redis.replicate_commands(),redis.breakpoint(),select("#",redis.log(redis.LOG_DEBUG,"x")),select("#",redis.setresp(2)),select("#",redis.set_repl(redis.REPL_ALL))}
--- no-print
return print
--- no-io
return io
--- os
local r={} for k in pairs(os) do r[#r+1]=k end return {r,type(os.clock())}
--- keys-write
KEYS[1]="z" ARGV.x=1 return KEYS[1]
--- keys-replace
KEYS=nil
--- error-level
local function f() error("deep",2) end f()
--- error-in-line-3
local a = 1
local b = 2
error("here")
--- error-nested-call
local function f() return redis.call("incr","z") end
return f()
--- error-rethrown
local r=redis.pcall("incr","z") error(r)
--- error-rethrown-text
local r=redis.pcall("incr","z") error(r["err"])
--- error-returned
return redis.pcall("incr","z")
--- error-inside-array
return {redis.pcall("incr","z"),1}
--- coroutine
local c=coroutine.wrap(function() for i=1,3 do coroutine.yield(redis.call("incr","co")) end end) return {c(),c(),c()}
--- coroutine-error
local c=coroutine.create(function() error("in co") end) return {coroutine.resume(c)}
--- yield-outside
coroutine.yield(1)
--- getfenv
return {type(getfenv(0)),getfenv(1)==_G}
--- collectgarbage
return {type(collectgarbage("count")),collectgarbage(),collectgarbage("step"),pcall(collectgarbage,"nosuch")}
--- cjson-encode
return {cjson.encode({1,2,3}),cjson.encode({}),cjson.encode({a=1}),cjson.encode("a/b\"\\\b\f\n\r\t\0\127é"),cjson.encode(1.5),cjson.encode(1e20),cjson.encode(123456789012345),cjson.encode(0.1),cjson.encode(-0.0),cjson.encode(true),cjson.encode(cjson.null),cjson.encode({[1]=1,[3]=3}),cjson.encode({[1.5]=2}),cjson.encode({nil,2})}
--- cjson-encode-errors
local function e(...) local ok,e=pcall(cjson.encode,...) return e end local d={} for i=1,1001 do d={d} end
return {e(),e(1,2),e(function() end),e({[true]=1}),e({[1]=1,[100]=1}),e(0/0),e(1/0),e(d),e(coroutine.create(function() end)),e({print=redis.call})}
--- cjson-decode
local function show(v) if type(v)=="table" then local r={} for k,x in pairs(v) do r[#r+1]=type(k)..tostring(k).."="..show(x) end table.sort(r) return "{"..table.concat(r,",").."}" end return type(v)..":"..(v==cjson.null and "null" or tostring(v)) end
local r={} for _,s in ipairs{'[1,2,[3]]','{"a":{"b":null}}','"\\u00e9\\ud83d\\ude00\\n\\/"','1e3',' [ ] ','{}','-1.5','true','0x10','nan','-inf','Infinity','01','[1,null,3]','12345678901234567890','{"1":1}','"\\u0000x"'} do r[#r+1]=show(cjson.decode(s)) end return r
--- cjson-decode-errors
local r={} for _,s in ipairs{'','[','[1','[1,','{','{"a"','{"a":','{"a":1','{"a":1,','{1:2}','tru','"abc','"\\x"','"\\u12"','"\\ud800"','"\\udc00"','[1 2]','1 2','+','-','.5','nul','[,]','{,}','\1','"a\nb"','1.','1e','[1]]'} do r[#r+1]=select(2,pcall(cjson.decode,s)) end r[#r+1]=select(2,pcall(cjson.decode)) r[#r+1]=select(2,pcall(cjson.decode,{})) r[#r+1]=select(2,pcall(cjson.decode,("["):rep(1001))) return r
--- cjson-decode-zero-bytes
return {select(2,pcall(cjson.decode,"\0")),select(2,pcall(cjson.decode,"\0\0")),select(2,pcall(cjson.decode,"1\0")),select(2,pcall(cjson.decode,"12\0"))}
--- cjson-options
return {cjson.encode_sparse_array(),{cjson.encode_sparse_array(true,3,5)},cjson.encode_max_depth(),cjson.encode_max_depth(10),cjson.decode_max_depth(),cjson.encode_number_precision(),cjson.encode_number_precision(3),cjson.encode(3.14159),cjson.encode(1234567),cjson.encode_keep_buffer(),cjson.encode_invalid_numbers(),cjson.encode_invalid_numbers(true),cjson.encode({1/0,-1/0,0/0}),cjson.encode_invalid_numbers("null"),cjson.encode(0/0),cjson.decode_invalid_numbers(),cjson.decode_invalid_numbers(false),select(2,pcall(cjson.decode,"nan")),select(2,pcall(cjson.decode,"0x1")),cjson.encode({[1]=1,[50]=2})}
--- cjson-options-errors
local function e(f,...) local ok,e=pcall(f,...) return e end
return {e(cjson.encode_max_depth,0),e(cjson.encode_max_depth,"x"),e(cjson.encode_max_depth,1,2),e(cjson.encode_number_precision,15),e(cjson.encode_sparse_array,1),e(cjson.encode_sparse_array,true,-1),e(cjson.encode_invalid_numbers,"x"),e(cjson.decode_invalid_numbers,{})}
--- cjson-options-restore
cjson.encode_sparse_array(false,2,10) cjson.encode_max_depth(1000) cjson.encode_number_precision(14) cjson.encode_invalid_numbers(false) cjson.decode_invalid_numbers(true) return 1
--- cjson-new
local j=cjson.new() j.encode_number_precision(3) return {j.encode(3.14159),cjson.encode(3.14159),cjson._NAME,cjson._VERSION,type(cjson.null)}
--- cmsgpack-pack
local r={} local function hex(s) return (s:gsub(".",function(c) return ("%02x"):format(c:byte()) end)) end
for _,v in ipairs{0,127,128,255,256,65535,65536,4294967295,4294967296,-1,-32,-33,-128,-129,-32768,-32769,-2147483648,-2147483649,1.5,0.1,1e300,-0.0,2^53,2^63,-2^63,1/0,true,false,"","abc",("x"):rep(31),("x"):rep(32),{},{1,2,3},{a=1},{[1]=1,[3]=3},{[0]=1},{1,nil,3}} do local p=hex(cmsgpack.pack(v)) r[#r+1]=p end
r[#r+1]=hex(cmsgpack.pack(("x"):rep(256))):sub(1,10) r[#r+1]=hex(cmsgpack.pack(("x"):rep(65536))):sub(1,12) local t={} for i=1,16 do t[i]=i end r[#r+1]=hex(cmsgpack.pack(t)) for i=17,70000 do t[i]=1 end r[#r+1]=hex(cmsgpack.pack(t)):sub(1,12) r[#r+1]=hex(cmsgpack.pack(1,"a",nil,{})) r[#r+1]=hex(cmsgpack.pack(function() end)) local d={} for i=1,20 do d={d} end r[#r+1]=hex(cmsgpack.pack(d)) return r
--- cmsgpack-unpack
local function x(h) return (h:gsub("..",function(c) return string.char(tonumber(c,16)) end)) end
local function show(v) if type(v)=="table" then local r={} for k,y in pairs(v) do r[#r+1]=tostring(k).."="..show(y) end table.sort(r) return "{"..table.concat(r,",").."}" end return type(v)..":"..tostring(v) end
local r={} for _,h in ipairs{"00","7f","ff","e0","cc80","cd0100","ce00010000","cf0000000100000000","cfffffffffffffffff","d080","d18000","d280000000","d38000000000000000","ca3fc00000","cb3ff8000000000000","c2","c3","c0","a3616263","d903616263","da0003616263","db00000003616263","c403616263","c50003616263","93010203","dc00020102","dd000000020102","8101a161","de000101a161","df0000000101a161","90","80"} do r[#r+1]=show(cmsgpack.unpack(x(h))) end
return {r,{cmsgpack.unpack(cmsgpack.pack(1,2,"x"))},{cmsgpack.unpack_one(cmsgpack.pack(1,2,3))},{cmsgpack.unpack_one(cmsgpack.pack(1,2,3),2)},{cmsgpack.unpack_limit(cmsgpack.pack(1,2,3),2)},{cmsgpack.unpack_limit(cmsgpack.pack(1,2,3),2,1)},{cmsgpack.unpack("")},{cmsgpack.unpack_limit(cmsgpack.pack(1,2,3),0)}}
--- cmsgpack-errors
local function x(h) return (h:gsub("..",function(c) return string.char(tonumber(c,16)) end)) end
local function e(f,...) local ok,e=pcall(f,...) return e end local r={} for _,h in ipairs{"c1","c7","d4","cc","cd00","da00","a3","93","81","9301","c9ff","d9"} do r[#r+1]=e(cmsgpack.unpack,x(h)) end
return {r,e(cmsgpack.pack),e(cmsgpack.unpack),e(cmsgpack.unpack,{}),e(cmsgpack.unpack_one,"a",-1),e(cmsgpack.unpack_one,"a",5),e(cmsgpack.unpack_limit,"a"),e(cmsgpack.unpack_limit,"a",-1),e(cmsgpack.unpack_limit,"a",1,9),e(cmsgpack.unpack,"\129\192\192")}
--- bit
return {bit.tobit(0xffffffff),bit.tobit(2^40+5),bit.tobit(-1.5),bit.tobit(2.5),bit.tobit(3.5),bit.bnot(0),bit.band(0xff,0x0f,7),bit.bor(1,2,4),bit.bxor(5,3),bit.lshift(1,31),bit.lshift(1,32),bit.rshift(-1,28),bit.arshift(-256,4),bit.rol(0x12345678,12),bit.ror(0x12345678,12),bit.bswap(0x12345678),bit.tohex(1),bit.tohex(-1),bit.tohex(255,4),bit.tohex(255,-4),bit.tohex(255,100),bit.tohex(255,0),bit.band(5),bit.tobit("7"),bit.tobit(1e300)}
--- bit-errors
local function e(f,...) local ok,e=pcall(f,...) return e end
return {e(bit.band),e(bit.tobit),e(bit.tobit,"x"),e(bit.lshift,1),e(bit.tohex),e(bit.tohex,1,-2147483648)}
--- struct-pack
local r={} local function hex(s) return (s:gsub(".",function(c) return ("%02x"):format(c:byte()) end)) end
for _,a in ipairs{{">I4",7},{"<I4",7},{">i2",-2},{"b",-1},{"B",255},{">h",-300},{">H",65535},{">l",-5},{">L",5},{">T",9},{">f",1.5},{">d",-2.25},{"s","abc"},{"c3","abcd"},{"c0","abcd"},{"x"},{">bxh",1,2},{"!4 bi",1,2},{"!8bd",1,2},{">I3",0x123456},{"<i16",-1},{">I8",2^53},{"bbb",1,2,3},{" > I2 ",1},{"I1",300},{"i4",2147483648},{">I8",2^63},{">I8",2^64},{">l",-2^63}} do r[#r+1]=hex(struct.pack(unpack(a))) end return r
--- struct-unpack
local function x(h) return (h:gsub("..",function(c) return string.char(tonumber(c,16)) end)) end
return {{struct.unpack(">I4",x"00000007")},{struct.unpack("<i2",x"feff")},{struct.unpack("bB",x"ffff")},{struct.unpack(">h",x"8000")},{struct.unpack("s","abc\0def")},{struct.unpack("c2","abc")},{struct.unpack("bc0","\3abcd")},{struct.unpack(">f",x"3fc00000")},{struct.unpack("!4bi4",x"0100000002000000")},{struct.unpack("b","abc",2)},{struct.unpack("x","a")},{struct.unpack(">I3",x"123456")},{struct.unpack(">l",x"8000000000000000")},{struct.unpack("<i16",x"ffffffffffffffffffffffffffffffff")},{tostring(select(1,struct.unpack(">L",x"ffffffffffffffff")))},{struct.size("bhild")},{struct.size("!8bd")},{struct.size(">I3c5x")}}
--- struct-errors
local function e(f,...) local ok,e=pcall(f,...) return e end
return {e(struct.pack),e(struct.pack,"z"),e(struct.pack,"i"),e(struct.pack,"i33",1),e(struct.pack,"c5","abc"),e(struct.pack,"!3",1),e(struct.unpack,"i","a"),e(struct.unpack,"s","abc"),e(struct.unpack,"c0","abc"),e(struct.unpack,"i","aaaa",0),e(struct.unpack,"i","aaaa",-1),e(struct.size,"s"),e(struct.size,"c0"),e(struct.size,"z"),e(struct.unpack,"b","abc",4),e(struct.unpack,"b","abc",100),e(struct.pack,"i99999999999",1),e(struct.pack,"f","x"),e(struct.pack,"s"),e(struct.unpack,"bc0","\9a")}
--- many-results
return {unpack((function() local t={} for i=1,200 do t[i]=i end return t end)())}
--- stack-overflow
local function f() return 1+f() end return f()
--- deep-pcall
local function f(n) if n==0 then return "bottom" end local ok,e=pcall(f,n-1) return e end return f(150)
--- c-stack-overflow
local function f() return pcall(f) end return {f()}
--- gsub-callback
return {("abc"):gsub("%w",function(c) return redis.call("echo",c)..c end)}
--- sort-invalid
return {pcall(table.sort,{3,2,1,5,4},function() return true end)}
--- metamethods
local t=setmetatable({},{__index=function(t,k) return k end,__call=function(self,a) return a end,__tostring=function() return "T" end,__len=function() return 9 end,__eq=function() return true end}) return {t.foo,t(5),tostring(t)}
--- index-metatable-reply
return setmetatable({},{__index=function(t,k) return 1 end})
--- shebang
#!lua
return 1
--- shebang-no-writes
#!lua flags=no-writes
return redis.call("set","a",1)
--- shebang-line
#!lua flags=no-writes,allow-oom
return redis.call("nosuch")
--- shebang-engine
#!js
return 1
--- shebang-flag
#!lua flags=bad
return 1
--- shebang-option
#!lua name=x
return 1
--- shebang-empty-flags
#!lua flags=
return 5
--- shebang-comma
#!lua flags=no-writes,
return 5
--- time
return #redis.call("time")
--- publish
return redis.call("publish","ch","m")
--- long-names
return redis.call(("x"):rep(200))
--- number-keys
redis.call("set",1,2) redis.call("set",1.5,3) return {redis.call("get","1"),redis.call("get","1.5")}
--- dbsize
redis.call("flushall") redis.call("set","a",1) redis.call("set","b",1) return {redis.call("dbsize"),#redis.call("keys","*")}
--- expire-frozen
redis.call("set","e",1,"px",20) local n=0 while n<2000000 do n=n+1 end return redis.call("exists","e")
--- set-repl-none
redis.set_repl(redis.REPL_NONE) redis.call("set","norepl",1) redis.set_repl(redis.REPL_ALL) return redis.call("get","norepl")
--- lexical-levels
local s={} for i=1,190 do s[i]="(" end for i=1,190 do s[#s+1]=")" end return select(2,loadstring("return "..table.concat(s,"",1,190).."1"..table.concat(s,"",191)))
--- lexical-too-deep
return select(2,loadstring("return "..("("):rep(300).."1"..(")"):rep(300)))
--- many-locals
local s={} for i=1,201 do s[i]="local a"..i.."=1" end return select(2,loadstring(table.concat(s,"\n")))
--- long-strings
return {[==[a]]b]==],#[[
x]],"\65\066\n"}
--- goto-is-a-name
local goto=1 return goto
--- comparison-error
return 1 < "x"
--- arithmetic-error
return {} + 1
--- concat-error
return "a" .. {}
--- call-nil
local t={} t.x.y()
--- upvalue-error
local u local function f() return u.x end return f()
