/* SPDX-License-Identifier: MIT
 * `luaworker dev`: a model stand-in, a local autoscaler and the worker, each a process of this same
 * binary, started in order and ended together. No event loop here: it waits for signals. */
#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "program/options.h"
#include "program/program.h"
#include "worker/scheme.h"

enum {
  MODEL,
  AUTOSCALER,
  WORKER,
  CHILDREN
};
/* Tokens a second in answers that are given whole: quick enough for a benchmark at every start. */
#define WHOLE_RATE "1000"

enum {
  START_MS = 10000,
  STOP_S = 40
};

static const char *const child_names[CHILDREN] = {"the model stand-in", "the autoscaler",
                                                  "the worker"};
static const char *const port_options[CHILDREN] = {"model-port", "autoscaler-port", "port"};

static struct {
  const char *script, *log_level, *rate, *auth_scheme;
  const char *model_url; /* of the stand-in, or of the user's own model server */
  bool has_stand_in;
  int64_t ports[CHILDREN];
  pid_t pids[CHILDREN];
  char self[PATH_MAX], directory[64], endpoint[128];
} dev = {.log_level = "info", .rate = "20", .auth_scheme = "url", .ports = {5001, 8081, 3000}};

static void set_env(const char *name, const char *format, ...) LW_PRINTF(2, 3);
static void set_env(const char *name, const char *format, ...) {
  char value[512];
  va_list args;
  va_start(args, format);
  vsnprintf(value, sizeof value, format, args);
  va_end(args);
  setenv(name, value, 1);
}

static void set_worker_environment(void) {
  char mapped[64];
  set_env("MODEL_SERVER_URL", "%s", dev.model_url);
  if (dev.has_stand_in) set_env("MODEL_LOG", "%s/model.log", dev.directory);
  set_env("REPORT_ADDR", "http://127.0.0.1:%" PRId64, dev.ports[AUTOSCALER]);
  set_env("PUBLIC_IPADDR", "127.0.0.1");
  snprintf(mapped, sizeof mapped, "VAST_TCP_PORT_%" PRId64, dev.ports[WORKER]);
  set_env(mapped, "%" PRId64, dev.ports[WORKER]);
  set_env("CONTAINER_ID", "1");
  unsetenv("UNSECURED");
  unsetenv("WORKER_PORT");
}

static _Noreturn void become(pid_t parent, const char *const *args) {
  const char *argv[32] = {dev.self};
  for (size_t i = 0; args[i]; i++) argv[i + 1] = args[i];
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, NULL);
  prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (getppid() != parent) _exit(1);
  execv(dev.self, (char *const *)argv);
  fprintf(stderr, "luaworker dev: can't run %s: %s\n", dev.self, strerror(errno));
  _exit(127);
}

static void start_child(int which, const char *const *args) {
  pid_t parent = getpid();
  dev.pids[which] = fork();
  if (dev.pids[which] < 0) lw_die("can't start %s: %s", child_names[which], strerror(errno));
  if (dev.pids[which] > 0) return;
  setpgid(0, 0); /* Ctrl-C reaches only the parent, which ends the children in order */
  become(parent, args);
}

/* Tells the script's mistakes, before anything is started for it. */
static bool check_script(void) {
  const char *const args[] = {"check", "--model-url", dev.model_url, "--", dev.script, NULL};
  pid_t parent = getpid(), pid = fork();
  if (pid < 0) lw_die("can't check %s: %s", dev.script, strerror(errno));
  if (pid == 0) {
    set_worker_environment();
    dup2(STDERR_FILENO, STDOUT_FILENO);
    become(parent, args);
  }
  int status = 0;
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) continue;
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static bool port_answers(int64_t port) {
  struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
  in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  bool ok = fd >= 0 && connect(fd, (struct sockaddr *)&in, sizeof in) == 0;
  if (fd >= 0) close(fd);
  return ok;
}

static bool has_ended(int which) {
  int status;
  if (!dev.pids[which] || waitpid(dev.pids[which], &status, WNOHANG) != dev.pids[which])
    return false;
  dev.pids[which] = 0;
  return true;
}

static bool wait_for(int which) {
  sigset_t stop;
  sigemptyset(&stop);
  sigaddset(&stop, SIGTERM);
  sigaddset(&stop, SIGINT);
  for (int spent = 0; spent < START_MS; spent += 10) {
    if (has_ended(which)) break;
    if (port_answers(dev.ports[which])) return true;
    if (sigtimedwait(&stop, NULL, &(struct timespec){0, 10000000}) > 0) return false;
  }
  fprintf(stderr, "luaworker dev: %s did not start on port %" PRId64 ": it says why above\n",
          child_names[which], dev.ports[which]);
  return false;
}

static bool start_children(const char *first_scheme) {
  char ports[CHILDREN][16], log[96], cache[96], internal[96];
  for (int i = 0; i < CHILDREN; i++) {
    snprintf(ports[i], sizeof ports[i], "%" PRId64, dev.ports[i]);
    if (i == MODEL && !dev.has_stand_in) continue;
    if (!port_answers(dev.ports[i])) continue;
    fprintf(stderr, "luaworker dev: port %s is in use; choose another with --%s\n", ports[i],
            port_options[i]);
    return false;
  }
  snprintf(log, sizeof log, "%s/model.log", dev.directory);
  snprintf(cache, sizeof cache, "%s/benchmark", dev.directory);
  snprintf(internal, sizeof internal, "%s/internal_port", dev.directory);
  const char *model[] = {"run",          "--log-level", "warn", "@model_server", "--port",
                         ports[MODEL],   "--log",       log,    "--rate",        dev.rate,
                         "--whole-rate", WHOLE_RATE,    NULL};
  const char *autoscaler[] = {"run",           "--log-level",     "warn",       "@autoscaler",
                              "--port",        ports[AUTOSCALER], "--endpoint", dev.endpoint,
                              "--auth-scheme", first_scheme,      NULL};
  const char *worker[] = {"serve", dev.script, "--host", "127.0.0.1", "--port", ports[WORKER],
                          "--internal-port", "0", "--internal-port-file", internal,
                          "--benchmark-cache", cache, "--log-format", "text", "--log-level",
                          dev.log_level, "--auth-scheme", dev.auth_scheme, "--watch",
                          "--model-url", /* whatever the script says */
                          dev.model_url,
                          /* for the script may look for lines that the stand-in does not log */
                          dev.has_stand_in ? "--model-loaded" : NULL, NULL};
  if (dev.has_stand_in) start_child(MODEL, model);
  start_child(AUTOSCALER, autoscaler);
  if (dev.has_stand_in && !wait_for(MODEL)) return false;
  if (!wait_for(AUTOSCALER)) return false;
  set_worker_environment();
  start_child(WORKER, worker);
  return wait_for(WORKER);
}

/* The worker writes it a moment after its port answers; 0: it never did. */
static int internal_port(void) {
  char path[96];
  int port = 0;
  snprintf(path, sizeof path, "%s/internal_port", dev.directory);
  for (int spent = 0; spent < 1000 && port == 0; spent += 10) {
    FILE *f = fopen(path, "r");
    if (f && fscanf(f, "%d", &port) != 1) port = 0;
    if (f) fclose(f);
    if (port == 0) nanosleep(&(struct timespec){0, 10000000}, NULL);
  }
  return port;
}

static void print_invitation(void) {
  int64_t worker = dev.ports[WORKER], autoscaler = dev.ports[AUTOSCALER];
  printf("\nAll is running: model %s, autoscaler %" PRId64 ", worker %" PRId64 ", endpoint %s.\n\n",
         dev.has_stand_in ? strrchr(dev.model_url, ':') + 1 : dev.model_url, autoscaler, worker,
         dev.endpoint);
  if (strcmp(dev.endpoint, "hello_world") == 0) {
    printf(
        "A signed request, by hand:\n"
        "  AUTH=$(curl -s http://127.0.0.1:%" PRId64
        "/route/ -d '{\"endpoint\":\"hello_world\",\"api_key\":\"dev\",\"cost\":10}')\n"
        "  curl -s http://127.0.0.1:%" PRId64
        "/generate -d \"{\\\"auth_data\\\":$AUTH,"
        "\\\"payload\\\":{\\\"prompt\\\":\\\"hello\\\",\\\"max_response_tokens\\\":8}}\"\n"
        "  curl -sN http://127.0.0.1:%" PRId64
        "/generate_stream -d \"{\\\"auth_data\\\":$AUTH,"
        "\\\"payload\\\":{\\\"prompt\\\":\\\"hello\\\",\\\"max_response_tokens\\\":8}}\"\n"
        "%s"
        "Or by the client that is built in:\n"
        "  luaworker call %s /generate_stream --autoscaler http://127.0.0.1:%" PRId64
        " --json '{\"prompt\":\"hello\",\"max_response_tokens\":8}'\n",
        autoscaler, worker, worker,
        strcmp(dev.auth_scheme, "url") == 0
            ? ""
            : "An AUTH is good for one request only: take a new one for each.\n",
        dev.script, autoscaler);
  } else {
    printf(
        "A signed request, with the payload of the script's benchmark or --json PAYLOAD:\n"
        "  luaworker call %s ROUTE --autoscaler http://127.0.0.1:%" PRId64 "\n",
        dev.script, autoscaler);
  }
  printf("Is it ready, and if not, why: luaworker status %d\n", internal_port());
  printf("Edit %s: it is loaded anew when you save it, or by kill -HUP %d. Ctrl-C ends all.\n\n",
         dev.script, (int)getpid());
  fflush(stdout);
}

static void stop_children(void) {
  for (int i = WORKER; i >= MODEL; i--) {
    if (!dev.pids[i]) continue;
    kill(dev.pids[i], SIGTERM);
    for (int spent = 0; spent < STOP_S * 100 && !has_ended(i); spent++) {
      nanosleep(&(struct timespec){0, 10000000}, NULL);
    }
    if (!dev.pids[i]) continue;
    kill(dev.pids[i], SIGKILL);
    waitpid(dev.pids[i], NULL, 0);
  }
}

/* Until a signal to stop comes (status 0) or a child ends by itself (1). */
static int supervise(const sigset_t *signals) {
  for (;;) {
    int signum = sigwaitinfo(signals, NULL);
    if (signum == SIGHUP) {
      kill(dev.pids[WORKER], SIGHUP);
    } else if (signum == SIGTERM || signum == SIGINT) {
      return 0;
    }
    for (int i = 0; signum == SIGCHLD && i < CHILDREN; i++) {
      if (!has_ended(i)) continue;
      fprintf(stderr, "luaworker dev: %s has ended; stopping the others\n", child_names[i]);
      return 1;
    }
  }
}

static void check_ports(void) {
  for (int i = dev.has_stand_in ? MODEL : AUTOSCALER; i < CHILDREN; i++) {
    for (int k = i + 1; k < CHILDREN; k++) {
      if (dev.ports[i] != dev.ports[k]) continue;
      lw_usage_error("dev", "--%s and --%s are both %" PRId64, port_options[i], port_options[k],
                     dev.ports[i]);
    }
  }
}

static void name_endpoint(void) {
  const char *base = strrchr(dev.script, '/');
  snprintf(dev.endpoint, sizeof dev.endpoint, "%s", base ? base + 1 : dev.script);
  char *dot = strrchr(dev.endpoint, '.');
  if (dot && dot != dev.endpoint) *dot = 0;
}

static void find_self(void) {
  ssize_t n = readlink("/proc/self/exe", dev.self, sizeof dev.self - 1);
  if (n < 0) lw_die("can't find the program's own file: %s", strerror(errno));
}

static void make_directory(void) {
  const char *tmp = getenv("TMPDIR");
  snprintf(dev.directory, sizeof dev.directory, "%.40s/luaworker-XXXXXX", tmp ? tmp : "/tmp");
  if (!mkdtemp(dev.directory)) lw_die("can't make %s: %s", dev.directory, strerror(errno));
}

static void remove_directory(void) {
  static const char *const files[] = {"model.log", "benchmark", "internal_port"};
  for (size_t i = 0; i < LW_ARRAY_SIZE(files); i++) {
    char path[96];
    snprintf(path, sizeof path, "%s/%s", dev.directory, files[i]);
    unlink(path);
  }
  rmdir(dev.directory);
}

int lw_dev_main(int argc, char **argv) {
  const lw_option options[] = {
      {"port", LW_OPTION_NUMBER, &dev.ports[WORKER], "N", "worker's port", NULL, 1, 65535},
      {"model-port", LW_OPTION_NUMBER, &dev.ports[MODEL], "N", "model stand-in's port", NULL, 1,
       65535},
      {"autoscaler-port", LW_OPTION_NUMBER, &dev.ports[AUTOSCALER], "N", "local autoscaler's port",
       NULL, 1, 65535},
      {"model-url", LW_OPTION_TEXT, &dev.model_url, "URL",
       "a model server of your own in place of the stand-in", NULL, 0, 0},
      {"rate", LW_OPTION_TEXT, &dev.rate, "N", "tokens per second of the model stand-in", NULL, 0,
       0},
      {"log-level", LW_OPTION_TEXT, &dev.log_level, "LEVEL", "of the worker", NULL, 0, 0},
      {"auth-scheme", LW_OPTION_TEXT, &dev.auth_scheme, "NAMES",
       "url, sorted, legacy, or a comma list; the autoscaler signs by the first", "AUTH_SCHEME", 0,
       0},
  };
  const lw_command command = {
      "dev",
      "SCRIPT [options]",
      "Runs SCRIPT as a worker together with a model stand-in and a local autoscaler, prints how "
      "to\n"
      "send requests, and shows every report. Whatever URL and log the script names, the model is\n"
      "the stand-in, which speaks hello_world's own API, OpenAI's, and that of an image server.\n"
      "The script is loaded anew when it is saved, and on SIGHUP; Ctrl-C ends all.",
      options,
      LW_ARRAY_SIZE(options),
      false};
  lw_scheme_kind kinds[LW_SCHEME_KINDS];
  const char *why = NULL;
  int first = lw_options_parse(&command, argc, argv);
  if (first >= argc) lw_usage_error("dev", "which worker script?");
  if (argc - first > 1) lw_usage_error("dev", "one script, not also %s", argv[first + 1]);
  if (!lw_scheme_parse(dev.auth_scheme, kinds, &why)) {
    lw_usage_error("dev", "--auth-scheme %s: %s", dev.auth_scheme, why);
  }
  dev.script = argv[first];
  char stand_in[64];
  snprintf(stand_in, sizeof stand_in, "http://127.0.0.1:%" PRId64, dev.ports[MODEL]);
  dev.has_stand_in = dev.model_url == NULL;
  if (dev.has_stand_in) dev.model_url = stand_in;
  check_ports();
  name_endpoint();
  find_self();
  make_directory();
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGHUP);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGCHLD);
  sigprocmask(SIG_BLOCK, &signals, NULL);
  int status = 1;
  if (check_script() && start_children(lw_scheme_name(kinds[0]))) {
    print_invitation();
    status = supervise(&signals);
  }
  stop_children();
  remove_directory();
  return status;
}
