// What is changed in the sources of Lua 5.1.5, as text to find and text to put there. A build fails when something to
// find is not there as often as it should be. Reasons: docs/decisions/0011-lua-with-changes.md.

pub struct Change {
    pub file: &'static str,
    pub times: usize,
    pub old: &'static str,
    pub new: &'static str,
}

pub const CHANGES: &[Change] = &[
    // Tables that nothing can change: a flag, looked at wherever Lua code or a library can store.
    Change {
        file: "lobject.h",
        times: 1,
        old: "  lu_byte lsizenode;  /* log2 of size of `node' array */\n  struct Table *metatable;",
        new: "  lu_byte lsizenode;  /* log2 of size of `node' array */\n  lu_byte readonly;\n  struct Table *metatable;",
    },
    Change {
        file: "ltable.c",
        times: 1,
        old: "  t->metatable = NULL;\n  t->flags = cast_byte(~0);",
        new: "  t->metatable = NULL;\n  t->readonly = 0;\n  t->flags = cast_byte(~0);",
    },
    Change {
        file: "lvm.c",
        times: 1,
        old: "      TValue *oldval = luaH_set(L, h, key); /* do a primitive set */\n",
        new: "      TValue *oldval;\n      if (h->readonly) luaG_runerror(L, \"Attempt to modify a readonly table\");\n      \
              oldval = luaH_set(L, h, key); /* do a primitive set */\n",
    },
    Change {
        file: "lapi.c",
        times: 1,
        old: "  setobj2t(L, luaH_set(L, hvalue(t), L->top-2), L->top-1);\n",
        new: "  if (hvalue(t)->readonly) luaG_runerror(L, \"Attempt to modify a readonly table\");\n  \
              setobj2t(L, luaH_set(L, hvalue(t), L->top-2), L->top-1);\n",
    },
    Change {
        file: "lapi.c",
        times: 1,
        old: "  setobj2t(L, luaH_setnum(L, hvalue(o), n), L->top-1);\n",
        new: "  if (hvalue(o)->readonly) luaG_runerror(L, \"Attempt to modify a readonly table\");\n  \
              setobj2t(L, luaH_setnum(L, hvalue(o), n), L->top-1);\n",
    },
    Change {
        file: "lapi.c",
        times: 1,
        old: "      hvalue(obj)->metatable = mt;\n",
        new: "      if (hvalue(obj)->readonly) luaG_runerror(L, \"Attempt to modify a readonly table\");\n      \
              hvalue(obj)->metatable = mt;\n",
    },
    Change {
        file: "lapi.c",
        times: 1,
        old: "LUA_API int lua_setfenv (lua_State *L, int idx) {",
        new: "LUA_API void basalt_set_readonly (lua_State *L, int idx, int readonly) {\n  \
              hvalue(index2adr(L, idx))->readonly = cast_byte(readonly);\n}\n\n\n\
              LUA_API int basalt_is_readonly (lua_State *L, int idx) {\n  \
              return hvalue(index2adr(L, idx))->readonly;\n}\n\n\n\
              LUA_API int lua_setfenv (lua_State *L, int idx) {",
    },
    // Chunks are text: whatever begins with the escape byte goes to the parser, which refuses it.
    Change {
        file: "ldo.c",
        times: 1,
        old: "  tf = ((c == LUA_SIGNATURE[0]) ? luaU_undump : luaY_parser)(L, p->z,\n                                                             &p->buff, p->name);\n",
        new: "  (void)c;\n  tf = luaY_parser(L, p->z, &p->buff, p->name);\n",
    },
    // CVE-2025-49844: the chunk's name is in use until the parser returns, so the collector has to know of it.
    Change {
        file: "lparser.c",
        times: 1,
        old: "  luaX_setinput(L, &lexstate, z, luaS_new(L, name));\n  open_func(&lexstate, &funcstate);\n",
        new: "  setsvalue2s(L, L->top, luaS_new(L, name));\n  incr_top(L);\n  \
              luaX_setinput(L, &lexstate, z, rawtsvalue(L->top - 1));\n  open_func(&lexstate, &funcstate);\n",
    },
    Change {
        file: "lparser.c",
        times: 1,
        old: "  lua_assert(lexstate.fs == NULL);\n  return funcstate.f;\n",
        new: "  lua_assert(lexstate.fs == NULL);\n  L->top--;\n  return funcstate.f;\n",
    },
    // CVE-2025-46817: the number of results is worked out without overflow.
    Change {
        file: "lbaselib.c",
        times: 1,
        old: "  n = e - i + 1;  /* number of elements */\n  if (n <= 0 || !lua_checkstack(L, n))  /* n <= 0 means arith. overflow */\n",
        new: "  if ((unsigned int)e - (unsigned int)i >= LUAI_MAXCSTACK || !lua_checkstack(L, e - i + 1))\n",
    },
    Change {
        file: "lbaselib.c",
        times: 1,
        old: "  while (i++ < e)  /* push arg[i + 1...e] */\n    lua_rawgeti(L, 1, i);\n  return n;\n",
        new: "  n = 1;\n  for (; i < e; n++)  /* push arg[i + 1...e] */\n    lua_rawgeti(L, 1, ++i);\n  return n;\n",
    },
    // CVE-2025-46819: lengths are worked out from the number of `=` in a long bracket.
    Change {
        file: "llex.c",
        times: 1,
        old: "    save_and_next(ls);\n    count++;\n",
        new: "    save_and_next(ls);\n    if (++count > MAX_INT / 8)\n      luaX_lexerror(ls, \"invalid long string delimiter\", TK_STRING);\n",
    },
    // The pattern matcher calls itself once for each item of a pattern: bounded as in later versions of Lua, where a
    // long pattern would overflow the stack of C.
    Change {
        file: "lstrlib.c",
        times: 1,
        old: "  int level;  /* total number of captures (finished or unfinished) */\n",
        new: "  int level;  /* total number of captures (finished or unfinished) */\n  int depth;\n",
    },
    Change {
        file: "lstrlib.c",
        times: 1,
        old: "static const char *match (MatchState *ms, const char *s, const char *p) {\n  init:",
        new: "static const char *match_here (MatchState *ms, const char *s, const char *p);\n\n\
              static const char *match (MatchState *ms, const char *s, const char *p) {\n  const char *end;\n  \
              if (++ms->depth > 10000) luaL_error(ms->L, \"pattern too complex\");\n  \
              end = match_here(ms, s, p);\n  ms->depth--;\n  return end;\n}\n\n\
              static const char *match_here (MatchState *ms, const char *s, const char *p) {\n  init:",
    },
    Change {
        file: "lstrlib.c",
        times: 3,
        old: "ms.level = 0;",
        new: "ms.level = ms.depth = 0;",
    },
];
