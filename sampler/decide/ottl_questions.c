/* Conditions of all policies share one program, so that equal ones are compiled once and equal keys looked up once. */
#include "sampler/decide/ottl_questions.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/cleanup.h"
#include "common/base/error.h"
#include "common/ottl/ottl.h"

struct ottl_list {
    uint32_t *conditions;
    size_t count;
};

struct ottl_question {
    struct ottl_list span, spanevent;
    enum ottl_error_mode mode;
    uint32_t bit, ordered;
    char *policy;
};

struct ottl_questions {
    struct ottl_program *program;
    struct ottl_question *items;
    size_t count;
    uint32_t ordered_count;
    bool asks_events;
};

#define NOTED_SIZE 256

struct ottl_asker {
    const struct ottl_questions *questions;
    struct ottl_run *run;
    const struct ottl_question *noted; /* whose error waits for the log; NULL: none */
    const char *noted_condition;
    char noted_text[NOTED_SIZE];
};

/* -- questions --------------------------------------------------------------------------------------------------- */

struct ottl_questions *ottl_questions_new(void)
{
    struct ottl_questions *questions = calloc(1, sizeof(*questions));

    if (!questions)
        return NULL;
    questions->program = ottl_program_new();
    if (!questions->program) {
        free(questions);
        return NULL;
    }
    return questions;
}

static void question_deinit(struct ottl_question *question)
{
    free(question->span.conditions);
    free(question->spanevent.conditions);
    free(question->policy);
}

void ottl_questions_free(struct ottl_questions *questions)
{
    if (!questions)
        return;
    for (size_t i = 0; i < questions->count; i++)
        question_deinit(&questions->items[i]);
    free(questions->items);
    ottl_program_free(questions->program);
    free(questions);
}

/* In the Collector's words, the condition as Go quotes it; then the engine's lines: the reason, the source, a caret below it. */
static char *condition_error(const char *condition, const char *reason)
{
    char *quoted = malloc(strlen(condition) * 2 + 1), *out = quoted, *text = NULL;

    if (!quoted)
        return NULL;
    for (; *condition; condition++) {
        const bool is_line_end = *condition == '\n';

        if (*condition == '"' || *condition == '\\' || is_line_end)
            *out++ = '\\';
        *out++ = is_line_end ? 'n' : *condition;
    }
    *out = 0;
    if (asprintf(&text, "unable to parse OTTL condition \"%s\": %s", quoted, reason) < 0)
        text = NULL;
    free(quoted);
    return text;
}

static int list_compile(struct ottl_program *program, enum ottl_context context, const struct config_strings *texts,
    struct ottl_list *out_list, char **out_error)
{
    out_list->conditions = calloc(texts->count + 1, sizeof(*out_list->conditions));
    if (!out_list->conditions)
        return error_raise(-ENOMEM);
    for (size_t i = 0; i < texts->count; i++) {
        char *reason = NULL;
        int r = ottl_program_add(program, context, texts->items[i], &out_list->conditions[i], &reason);

        if (r < 0)
            return error_pass(r);
        if (r > 0) {
            *out_error = condition_error(texts->items[i], reason);
            free(reason);
            return *out_error ? OTTL_QUESTION_E_INVALID : error_raise(-ENOMEM);
        }
    }
    out_list->count = texts->count;
    return 0;
}

static int question_compile(struct ottl_questions *questions, const struct ottl_ask *ask, struct ottl_question *question, char **out_error)
{
    int r;

    if (ask->span.count == 0 && ask->spanevent.count == 0) {
        *out_error = strdup("expected at least one OTTL condition to filter on");
        return *out_error ? OTTL_QUESTION_E_INVALID : error_raise(-ENOMEM);
    }
    if (ask->mode == OTTL_ERRORS_PROPAGATE) {
        if (questions->ordered_count == ORDERED_MAX) {
            if (asprintf(out_error, "more than %d policies with error_mode propagate", ORDERED_MAX) < 0)
                return error_raise(-ENOMEM);
            return OTTL_QUESTION_E_INVALID;
        }
        question->ordered = questions->ordered_count;
    }
    question->policy = strdup(ask->name);
    if (!question->policy)
        return error_raise(-ENOMEM);
    r = list_compile(questions->program, OTTL_CONTEXT_SPAN, &ask->span, &question->span, out_error);
    if (r)
        return r;
    return list_compile(questions->program, OTTL_CONTEXT_SPAN_EVENT, &ask->spanevent, &question->spanevent, out_error);
}

int ottl_questions_add(struct ottl_questions *questions, const struct ottl_ask *ask, uint32_t bit, uint32_t *out_ordered, char **out_error)
{
    struct ottl_question question = {.mode = ask->mode, .bit = bit, .ordered = UINT32_MAX}, *more;
    int r = question_compile(questions, ask, &question, out_error);

    more = r ? NULL : reallocarray(questions->items, questions->count + 1, sizeof(*more));
    if (!more) {
        question_deinit(&question);
        return r ? r : error_raise(-ENOMEM);
    }
    questions->items = more;
    questions->items[questions->count++] = question;
    questions->ordered_count += question.ordered != UINT32_MAX;
    questions->asks_events |= question.spanevent.count > 0;
    *out_ordered = question.ordered;
    return 0;
}

uint32_t ottl_questions_key_count(const struct ottl_questions *questions)
{
    return ottl_program_key_count(questions->program);
}

struct slice ottl_questions_key(const struct ottl_questions *questions, uint32_t key)
{
    return ottl_program_key(questions->program, key);
}

/* -- asking -------------------------------------------------------------------------------------------------------- */

struct ottl_asker *ottl_asker_new(const struct ottl_questions *questions)
{
    struct ottl_asker *asker = calloc(1, sizeof(*asker));

    if (!asker)
        return NULL;
    asker->questions = questions;
    asker->run = ottl_run_new(questions->program, NULL);
    if (!asker->run) {
        free(asker);
        return NULL;
    }
    return asker;
}

void ottl_asker_free(struct ottl_asker *asker)
{
    if (!asker)
        return;
    ottl_run_free(asker->run);
    free(asker);
}

/* The first error is kept until somebody takes it: more say nothing new. */
static void asker_note(struct ottl_asker *asker, const struct ottl_question *question, uint32_t condition)
{
    if (asker->noted)
        return;
    asker->noted = question;
    asker->noted_condition = ottl_program_text(asker->questions->program, condition);
    (void)ottl_run_error(asker->run, asker->noted_text, sizeof(asker->noted_text));
}

/* The list's outcome about one span or event: the first true, or the first error where errors count. */
static enum ottl_result asker_list(struct ottl_asker *asker, const struct ottl_question *question, const struct ottl_list *list,
    const struct slice *event)
{
    for (size_t i = 0; i < list->count; i++) {
        enum ottl_result result = event ? ottl_run_event_condition(asker->run, *event, list->conditions[i])
                                        : ottl_run_condition(asker->run, list->conditions[i]);

        if (result == OTTL_TRUE)
            return result;
        if (result == OTTL_FALSE || question->mode == OTTL_ERRORS_SILENT)
            continue;
        if (question->mode == OTTL_ERRORS_PROPAGATE)
            return result;
        asker_note(asker, question, list->conditions[i]);
    }
    return OTTL_FALSE;
}

static enum ottl_result asker_question(struct ottl_asker *asker, const struct ottl_question *question, struct slice span)
{
    enum ottl_result result = asker_list(asker, question, &question->span, NULL);
    struct ottl_events events;
    struct slice event;

    if (result != OTTL_FALSE || question->spanevent.count == 0)
        return result;
    ottl_events_start(&events, span);
    while (result == OTTL_FALSE && ottl_events_next(&events, &event))
        result = asker_list(asker, question, &question->spanevent, &event);
    return result;
}

void ottl_asker_span(struct ottl_asker *asker, const struct span_header *header, struct slice span, const struct span_view *view,
    const struct slice *attributes, struct span_facts *facts)
{
    ottl_run_header(asker->run, header);
    ottl_run_span(asker->run, span, view, attributes);
    for (size_t i = 0; i < asker->questions->count; i++) {
        const struct ottl_question *question = &asker->questions->items[i];
        enum ottl_result result = asker_question(asker, question, span);

        if (result == OTTL_TRUE)
            hits_set(&facts->hits, question->bit);
        if (question->ordered != UINT32_MAX) {
            facts->first_true |= (uint32_t)(result == OTTL_TRUE) << question->ordered;
            facts->first_error |= (uint32_t)(result == OTTL_ERROR) << question->ordered;
        }
    }
}

bool ottl_asker_take_error(struct ottl_asker *asker, struct ottl_noted_error *out_error)
{
    if (!asker->noted)
        return false;
    *out_error = (struct ottl_noted_error){asker->noted->policy, asker->noted_condition, asker->noted_text};
    asker->noted = NULL;
    return true;
}
