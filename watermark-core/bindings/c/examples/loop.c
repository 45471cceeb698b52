/* A generation loop with a mark, and the test that finds it: the whole interface in one page.
 *
 * The "model" is a table: the logits of the next token depend on the last token alone. Compiles as C11 and as C++17.
 * With the argument "portable" the portable machine code runs, for tools that know fewer instructions. */

#include "watermark.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { VOCABULARY = 1000, LENGTH = 400 };

/* Every failure has a message that says what to do. */
static void check(wmk_status status, const char *what)
{
    if (status != WMK_STATUS_OK) {
        fprintf(stderr, "%s: %s: %s\n", what, wmk_status_string(status), wmk_last_error());
        exit(1);
    }
}

static void expect(int holds, const char *what)
{
    if (!holds) {
        fprintf(stderr, "does not hold: %s\n", what);
        exit(1);
    }
}

/* The engine's own generator: splitmix64 here. */
static uint64_t next_coin(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static void model(int32_t last, float *logits)
{
    for (uint32_t i = 0; i < VOCABULARY; i++) {
        uint32_t x = (uint32_t)(last + 1) * 2654435761u ^ (i + 1) * 2246822519u;
        x ^= x >> 15;
        x *= 3266489917u;
        logits[i] = (float)(x >> 8) / (float)(1 << 24) * 8.0f;
    }
}

static wmk_scheme *scheme_of(const char *profile, unsigned char first)
{
    unsigned char key[32]; /* In earnest: key_file, or 32 bytes of a key management service. */
    memset(key, 7, sizeof key);
    key[0] = first;

    wmk_scheme_options options;
    memset(&options, 0, sizeof options);
    options.struct_size = sizeof options;
    options.profile = profile;
    options.key_bytes = key;
    options.key_bytes_len = sizeof key;
    options.epoch = "2026q4";
    wmk_scheme *scheme = NULL;
    check(wmk_scheme_new(&options, &scheme), "scheme");
    memset(key, 0, sizeof key);
    return scheme;
}

static double log10_p(const wmk_scheme *scheme, const int32_t *tokens, size_t len)
{
    wmk_detection detection;
    memset(&detection, 0, sizeof detection);
    detection.struct_size = sizeof detection;
    check(wmk_detect(scheme, tokens, len, &detection), "detect");
    return detection.log10_p;
}

static void loop(const char *profile)
{
    wmk_scheme *scheme = scheme_of(profile, 1);
    wmk_session *session = NULL;
    check(wmk_session_new(scheme, &session), "session");
    check(wmk_session_reserve(session, LENGTH), "reserve");

    static float logits[VOCABULARY];
    static int32_t tokens[LENGTH];
    uint64_t generator = 1;
    wmk_sampling sampling;
    memset(&sampling, 0, sizeof sampling);
    sampling.struct_size = sizeof sampling;
    sampling.temperature = 1.0f;
    sampling.top_p = 0.95f;
    sampling.top_k = 50;
    wmk_candidates candidates;
    memset(&candidates, 0, sizeof candidates);
    candidates.struct_size = sizeof candidates;
    candidates.values = logits;
    candidates.len = VOCABULARY;

    int32_t last = 0; /* The prompt stays outside the session. */
    for (int i = 0; i < LENGTH; i++) {
        wmk_decision decision;
        model(last, logits);
        check(wmk_session_step(session, &candidates, &sampling, next_coin(&generator), &decision), "step");
        check(wmk_session_accept(session, decision.token, decision.outcome), "accept");
        last = tokens[i] = decision.token;
    }

    wmk_counts counts;
    memset(&counts, 0, sizeof counts);
    counts.struct_size = sizeof counts;
    check(wmk_session_counts(session, &counts), "counts");
    wmk_scheme *other = scheme_of(profile, 2);
    double right = log10_p(scheme, tokens, LENGTH), wrong = log10_p(other, tokens, LENGTH);
    printf("%-15s %3llu of %d tokens marked, log10 p %.1f, under another key %.1f\n", profile,
           (unsigned long long)counts.outcomes[WMK_OUTCOME_MARKED], LENGTH, right, wrong);

    /* H0 holds under the other key: log10 p below -4 comes once in 10,000 keys, and this one is fixed. */
    expect(right < -20.0, "the mark is found");
    expect(wrong > -4.0 && wrong <= 0.0, "another key finds nothing");
    expect(counts.tokens == LENGTH, "all tokens are counted");

    wmk_session_free(session);
    wmk_scheme_free(other);
    wmk_scheme_free(scheme);
}

/* An engine that samples itself takes bits or biased logits for a batch, on a pool of its own. */
static void batch(void)
{
    enum { ROWS = 4, WORDS = (VOCABULARY + 31) / 32 };
    wmk_scheme *scheme = scheme_of("greenlist-h2", 1);
    wmk_pool *pool = NULL;
    check(wmk_pool_new(2, &pool), "pool");
    int32_t history[ROWS][2] = {{1, 2}, {3, 4}, {5, 6}, {-1, 7}};
    uint8_t active[ROWS] = {1, 1, 1, 0}; /* The last segment is too short for a window. */
    wmk_windows windows;
    memset(&windows, 0, sizeof windows);
    windows.struct_size = sizeof windows;
    windows.tokens = &history[0][0];
    windows.len = ROWS * 2;
    windows.rows = ROWS;
    windows.stride = 2;
    windows.active = active;
    static uint32_t masks[ROWS][WORDS];
    static float logits[ROWS][VOCABULARY];
    memset(logits, 0, sizeof logits);
    check(wmk_fill_masks(scheme, pool, &windows, &masks[0][0], ROWS * WORDS, VOCABULARY, WORDS), "masks");
    check(wmk_bias_rows(scheme, pool, &windows, &logits[0][0], ROWS * VOCABULARY, VOCABULARY, VOCABULARY), "bias");
    for (int row = 0; row < ROWS; row++)
        for (int token = 0; token < VOCABULARY; token++) {
            int green = masks[row][token / 32] >> (token % 32) & 1;
            expect(fabsf(logits[row][token] - (green ? 3.0f : 0.0f)) == 0.0f, "the mask says what was biased");
            expect(active[row] || !green, "an inactive row is left alone");
        }
    wmk_pool_free(pool);
    wmk_scheme_free(scheme);
}

/* What goes wrong is a status: the process goes on. */
static void refusals(void)
{
    wmk_scheme *scheme = NULL;
    wmk_scheme_options options;
    memset(&options, 0, sizeof options);
    expect(wmk_scheme_new(NULL, &scheme) == WMK_STATUS_NULL_POINTER, "no options");
    expect(wmk_scheme_new(&options, &scheme) == WMK_STATUS_STRUCT_SIZE, "struct_size is looked at");
    options.struct_size = sizeof options;
    options.profile = "greenlist-h1";
    options.key_line = "WMK-SLOT-KEY-1QQQQQQQ";
    expect(wmk_scheme_new(&options, &scheme) == WMK_STATUS_KEY, "a garbled key");
    expect(strstr(wmk_last_error(), "QQQ") == NULL, "no key in a message");
    expect(scheme == NULL, "nothing was made");
}

int main(int argc, char **argv)
{
    expect(wmk_abi_version() == WMK_ABI_VERSION, "header and library belong together");
    if (argc > 1 && strcmp(argv[1], "portable") == 0)
        check(wmk_kernel_select(WMK_KERNEL_PORTABLE), "kernel");
    printf("watermark %s\n", wmk_version());
    loop("gumbel-dual-h2");
    loop("tournament-h2");
    loop("greenlist-h1");
    batch();
    refusals();
    return 0;
}
