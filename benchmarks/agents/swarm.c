/* swarm KIND COUNT MARK: zombies - children that have exited and are never reaped; bomb - processes that fork and reap
   without a pause; unreaped - the same, each leaves some zombies. It ends by itself after 60 seconds. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void fork_on(int reaps) {
  for (int number = 1;; number++) {
    pid_t child = fork();
    if (child == 0) _exit(0);
    if (child < 0) usleep(1000);
    else if (reaps) waitpid(child, NULL, 0);
    else if (number % 8 == 0) while (waitpid(-1, NULL, WNOHANG) > 0);
  }
}

int main(int argc, char **argv) {
  if (argc < 3) return 2;
  alarm(60);
  for (int count = atoi(argv[2]); count > 0; count--) {
    pid_t child = fork();
    if (child < 0) { perror("fork"); return 1; }
    if (child == 0) {
      alarm(60);
      if (strcmp(argv[1], "zombies")) fork_on(strcmp(argv[1], "unreaped"));
      _exit(0);
    }
  }
  for (;;) pause();
}
