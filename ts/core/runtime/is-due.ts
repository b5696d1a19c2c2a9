/** Whether the time for something has come; undefined = it is not to be done by itself. */
export const isDue = (at: number | undefined, now: number): boolean => at !== undefined && at <= now;
