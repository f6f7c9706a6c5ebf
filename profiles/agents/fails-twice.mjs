// Fails at its first two attempts and succeeds at the third, as an agent behind a flaky service does.
// seqsup tells each attempt its number in the environment.
const attempt = Number(process.env.SEQSUP_ATTEMPT ?? 1);

if (attempt < 3) {
  console.error(`attempt ${attempt}: the service answered 503`);
  process.exitCode = 1;
} else {
  console.log(`attempt ${attempt}: the service answered 200`);
}
