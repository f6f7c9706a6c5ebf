// An agent that waits for ever.
setInterval(() => {}, 1e9);
