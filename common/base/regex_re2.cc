/* RE2 behind a C face. No exception leaves this file: all that can be thrown here is a failed allocation.
 *
 * One pattern is one RE2, which stops at the first match. Several are one RE2::Set, which reads the text once for all of
 * them; when they do not fit its budget together, the text is searched pattern by pattern, each with a budget of its own
 * and a slower search to fall back on. So the answer never depends on the budget. */
#include "common/base/regex_re2.h"

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include <re2/re2.h>
#include <re2/set.h>

struct regex_set {
    std::vector<std::string> patterns;
    /* As many as patterns, compiled when first needed. */
    std::vector<std::unique_ptr<re2::RE2>> singles;
    /* None for a single pattern, or when it does not fit. */
    std::unique_ptr<re2::RE2::Set> together;
    std::vector<int> found;
    std::string repaired;
};

namespace
{

re2::RE2::Options regex_options()
{
    re2::RE2::Options options;

    options.set_log_errors(false);
    options.set_never_capture(true);
    options.set_max_mem(REGEX_MEMORY_BYTES);
    return options;
}

/* Go's syntax where RE2's differs. False with a reason: Go has no such thing. */
bool regex_translate(const std::string &pattern, std::string &out, std::string &reason)
{
    const size_t len = pattern.size();
    bool in_class = false;
    size_t at = 0;

    while (at < len) {
        if (pattern[at] == '\\' && at + 1 < len) {
            if (pattern[at + 1] == 'C') {
                reason = "invalid escape sequence: `\\C`";
                return false;
            }
            if (pattern[at + 1] == 'Q' && !in_class) {
                size_t end = pattern.find("\\E", at + 2);

                end = end == std::string::npos ? len : end + 2;
                out.append(pattern, at, end - at);
                at = end;
                continue;
            }
            out.append(pattern, at, 2);
            at += 2;
        } else if (in_class) {
            if (pattern.compare(at, 2, "[:") == 0) {
                size_t end = pattern.find(":]", at + 2);

                if (end != std::string::npos) {
                    out.append(pattern, at, end + 2 - at);
                    at = end + 2;
                    continue;
                }
            }
            in_class = pattern[at] != ']';
            out += pattern[at++];
        } else if (pattern[at] == '[') {
            /* A `]` that comes first belongs to the class. */
            size_t first = at + 1;

            if (first < len && pattern[first] == '^')
                first++;
            if (first < len && pattern[first] == ']')
                first++;
            out.append(pattern, at, first - at);
            at = first;
            in_class = true;
        } else if (pattern.compare(at, 3, "(?<") == 0) {
            out += "(?P<";
            at += 3;
        } else {
            out += pattern[at++];
        }
    }
    return true;
}

/* Length of the valid UTF-8 sequence at the start, 0 when there is none (as Go's utf8.DecodeRune judges). */
size_t utf8_length(const unsigned char *at, size_t len)
{
    unsigned char low = 0x80, high = 0xbf;
    size_t need;

    if (at[0] < 0x80)
        return 1;
    if (at[0] < 0xc2 || at[0] > 0xf4)
        return 0;
    need = at[0] < 0xe0 ? 2 : at[0] < 0xf0 ? 3 : 4;
    if (len < need)
        return 0;
    if (at[0] == 0xe0)
        low = 0xa0; /* shorter forms exist */
    else if (at[0] == 0xed)
        high = 0x9f; /* surrogates */
    else if (at[0] == 0xf0)
        low = 0x90;
    else if (at[0] == 0xf4)
        high = 0x8f; /* past U+10FFFF */
    if (at[1] < low || at[1] > high)
        return 0;
    for (size_t i = 2; i < need; i++)
        if ((at[i] & 0xc0) != 0x80)
            return 0;
    return need;
}

/* The text itself when it is valid UTF-8, else a copy with each stray byte replaced. */
re2::StringPiece regex_text(regex_set *set, const char *text, size_t len)
{
    const unsigned char *bytes = reinterpret_cast<const unsigned char *>(text);
    size_t at = 0, step;

    while (at < len && (step = utf8_length(bytes + at, len - at)) > 0)
        at += step;
    if (at == len)
        return re2::StringPiece(text, len);

    set->repaired.assign(text, at);
    while (at < len) {
        step = utf8_length(bytes + at, len - at);
        if (step > 0) {
            set->repaired.append(text + at, step);
            at += step;
        } else {
            set->repaired += "\xef\xbf\xbd";
            at++;
        }
    }
    return re2::StringPiece(set->repaired);
}

const re2::RE2 &regex_single(regex_set *set, size_t index)
{
    if (!set->singles[index])
        set->singles[index].reset(new re2::RE2(set->patterns[index], regex_options()));
    return *set->singles[index];
}

bool regex_set_compile(
    regex_set *set, char *const *patterns, size_t count, std::string &reason, size_t &index)
{
    const re2::RE2::Options options = regex_options();

    set->singles.resize(count);
    for (index = 0; index < count; index++) {
        std::string translated;

        if (!regex_translate(patterns[index], translated, reason))
            return false;
        set->patterns.push_back(translated);
        const re2::RE2 &single = regex_single(set, index);
        if (!single.ok()) {
            reason = single.error();
            return false;
        }
    }
    if (count < 2)
        return true;

    set->together.reset(new re2::RE2::Set(options, re2::RE2::UNANCHORED));
    for (const std::string &pattern : set->patterns) {
        if (set->together->Add(pattern, nullptr) < 0) {
            set->together.reset();
            return true;
        }
    }
    if (!set->together->Compile())
        set->together.reset();
    else
        for (std::unique_ptr<re2::RE2> &single : set->singles)
            single.reset();
    return true;
}

} // namespace

int regex_set_new(char *const *patterns, size_t count, struct regex_set **out_set,
    char **out_reason, size_t *out_index)
try {
    std::unique_ptr<regex_set> set(new regex_set);
    std::string reason;
    size_t index = 0;

    if (!regex_set_compile(set.get(), patterns, count, reason, index)) {
        char *copy = strdup(reason.c_str());

        if (!copy)
            return -ENOMEM;
        *out_reason = copy;
        *out_index = index;
        return REGEX_E_INVALID;
    }
    *out_set = set.release();
    return 0;
} catch (...) {
    return -ENOMEM;
}

void regex_set_free(struct regex_set *set)
{
    delete set;
}

int regex_set_match(struct regex_set *set, const void *text, size_t len, uint64_t *out_bits)
try {
    const size_t count = set->patterns.size();
    const re2::StringPiece piece = regex_text(set, static_cast<const char *>(text), len);

    memset(out_bits, 0, (count + 63) / 64 * sizeof(*out_bits));
    if (set->together) {
        re2::RE2::Set::ErrorInfo error = {re2::RE2::Set::kNoError};

        set->found.clear();
        if (set->together->Match(piece, &set->found, &error)) {
            for (int index : set->found)
                out_bits[index / 64] |= uint64_t{1} << (index % 64);
            return 0;
        }
        if (error.kind == re2::RE2::Set::kNoError)
            return 0;
    }
    for (size_t i = 0; i < count; i++)
        if (re2::RE2::PartialMatch(piece, regex_single(set, i)))
            out_bits[i / 64] |= uint64_t{1} << (i % 64);
    return 0;
} catch (...) {
    return -ENOMEM;
}

/* -- groups ---------------------------------------------------------------------------------------------- */

struct regex_groups {
    std::unique_ptr<re2::RE2> regex;
    std::vector<std::string> names;
    std::vector<re2::StringPiece> found;
    regex_set text; /* for its repaired text only */
};

int regex_groups_new(const char *pattern, struct regex_groups **out_groups, char **out_reason)
try {
    std::unique_ptr<regex_groups> groups(new regex_groups);
    re2::RE2::Options options = regex_options();
    std::string translated, reason;

    options.set_never_capture(false);
    if (regex_translate(pattern, translated, reason)) {
        groups->regex.reset(new re2::RE2(translated, options));
        reason = groups->regex->error();
    }
    if (!groups->regex || !groups->regex->ok()) {
        *out_reason = strdup(reason.c_str());
        return *out_reason ? REGEX_E_INVALID : -ENOMEM;
    }
    groups->names.resize(static_cast<size_t>(groups->regex->NumberOfCapturingGroups()));
    for (const auto &name : groups->regex->CapturingGroupNames())
        groups->names[static_cast<size_t>(name.first) - 1] = name.second;
    groups->found.resize(groups->names.size() + 1);
    *out_groups = groups.release();
    return 0;
} catch (...) {
    return -ENOMEM;
}

void regex_groups_free(struct regex_groups *groups)
{
    delete groups;
}

size_t regex_groups_count(const struct regex_groups *groups)
{
    return groups->names.size();
}

const char *regex_groups_name(const struct regex_groups *groups, size_t group)
{
    return groups->names[group].c_str();
}

namespace
{

/* Where a place in the repaired text lies in the text as it came: a stray byte became three. */
size_t original_offset(const char *text, size_t len, size_t repaired)
{
    const unsigned char *bytes = reinterpret_cast<const unsigned char *>(text);
    size_t at = 0, seen = 0;

    while (at < len && seen < repaired) {
        const size_t step = utf8_length(bytes + at, len - at);

        at += step > 0 ? step : 1;
        seen += step > 0 ? step : 3;
    }
    return at;
}

} // namespace

int regex_groups_find(
    struct regex_groups *groups, const void *text, size_t len, struct regex_range *out_ranges)
try {
    const char *original = static_cast<const char *>(text);
    const re2::StringPiece piece = regex_text(&groups->text, original, len);
    const bool is_repaired = piece.data() != original;

    if (!groups->regex->Match(piece, 0, piece.size(), re2::RE2::UNANCHORED, groups->found.data(),
            static_cast<int>(groups->found.size())))
        return REGEX_E_NO_MATCH;
    for (size_t i = 0; i < groups->names.size(); i++) {
        const re2::StringPiece &group = groups->found[i + 1];
        size_t from, to;

        out_ranges[i] = {0, 0};
        if (!group.data())
            continue;
        from = static_cast<size_t>(group.data() - piece.data());
        to = from + group.size();
        if (is_repaired) {
            from = original_offset(original, len, from);
            to = original_offset(original, len, to);
        }
        out_ranges[i] = {from, to - from};
    }
    return 0;
} catch (...) {
    return -ENOMEM;
}
